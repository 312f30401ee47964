# The job that looks into a file system which nothing here can write, run in a jail by `look.rs` as
#
#   sh -c SCRIPT look DEVICE PATH...
#
# /image is the disk, to be read by GRUB's own drivers, which need no mount. DEVICE is GRUB's name for
# the file system. A root may also be a subvolume of btrfs, as Ubuntu (@) and Fedora (root) have them.
# Exit codes: 10 no root file system there; 11 it has one of the paths; 14 it has none of them.
set -eu
device=$1
shift
# Prints the name of what is there, with a slash behind it if that is a folder; nothing if nothing is.
list() { grub-fstest /image ls "($device)$1" 2>/dev/null; }
holds() { case " $(list "$1/" | tr '\n' ' ') " in *" $2/ "*) ;; *) return 1 ;; esac; }

for top in '' /@ /root; do
  if holds "$top" etc && holds "$top" root; then
    for path; do
      name=${path##*/}
      case " $(list "$top$path" | tr '\n' ' ') " in *" $name "*) exit 11 ;; esac
    done
    exit 14
  fi
done
exit 10

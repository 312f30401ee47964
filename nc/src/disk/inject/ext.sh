# The job that puts keys into a file system, run in a jail by `inject.rs` as
#
#   sh -c SCRIPT inject OFFSET PATH...        with the keys on standard input
#
# /image is the disk, to be read. What is changed is changed in a copy of the file system's own
# tables, a sparse file of some hundred KiB; what differs between `before` and `after` is the result.
# With paths, an image that has one of them is left alone. Exit codes: 10 no root file system of
# ext2, 3 or 4 there; 11 it has one of the paths; 12 it was not unmounted; 13 its /root/.ssh is odd.
set -eu
image="/image?offset=$1"
ask() { debugfs -R "$1" "$image" 2>/dev/null; }
kind() { ask "stat $1" | sed -n 's/^Inode:.*Type: \([a-z]*\).*/\1/p'; }
offset=$1
shift

[ "$(kind /etc)" = directory ] && [ "$(kind /root)" = directory ] || exit 10
for path; do
  [ -z "$(kind "$path")" ] || exit 11
done
# A journal that is replayed at boot would undo half of what is done here.
if ask features | grep -q needs_recovery; then exit 12; fi

# Keys that came with the image stay; a file that is none is not read without end.
case $(kind /root/.ssh/authorized_keys) in
regular) ask 'cat /root/.ssh/authorized_keys' | head -c 65536 >there || true ;;
*) : >there ;;
esac
{
  cat there
  [ ! -s there ] || [ -z "$(tail -c 1 there)" ] || echo
  cat
} >keys
e2image -r -o "$offset" /image after 2>/dev/null
cp --sparse=always after before
case $(kind /root/.ssh) in
directory) : >commands ;;
'')
  cat >commands <<'MAKE'
mkdir /root/.ssh
sif /root/.ssh mode 040700
sif /root/.ssh uid 0
sif /root/.ssh gid 0
MAKE
  ;;
*) exit 13 ;;
esac
cat >>commands <<'WRITE'
cd /root/.ssh
rm authorized_keys
write /work/keys authorized_keys
sif authorized_keys mode 0100600
sif authorized_keys uid 0
sif authorized_keys gid 0
WRITE
debugfs -w -f commands after >/dev/null 2>&1
debugfs -R 'cat /root/.ssh/authorized_keys' after 2>/dev/null | cmp -s - keys || exit 13

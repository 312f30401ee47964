#!/bin/sh
# One machine's Ceph with its S3 gateway, by hand, below a folder and on loopback:
#   radosgw.sh FOLDER MON_PORT S3_PORT
# A monitor, one OSD in memory (its memstore), no manager: nothing of it is kept, nothing is installed.
# Writes the pids of its daemons to FOLDER/pids as they start; answers when S3 does. Key: WALRUSKEY,
# walrus-secret.
set -eu
folder=$1 mon=$2 s3=$3
mkdir -p "$folder/mon" "$folder/osd" "$folder/rgw" "$folder/run"
fsid=$(cat /proc/sys/kernel/random/uuid)
export CEPH_CONF="$folder/ceph.conf" CEPH_ARGS=
cat > "$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$mon
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = $folder/run
admin socket = $folder/run/\$name.asok
pid file = $folder/run/\$name.pid
log file = $folder/\$name.log
mon data = $folder/mon
osd data = $folder/osd
rgw data = $folder/rgw
keyring = $folder/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
mon max pg per osd = 1000
mon allow pool delete = true
mon data avail crit = 1
rgw dynamic resharding = false
CONF
as_root="--setuser root --setgroup root"
key() { timeout 20 ceph-authtool "$folder/keyring" --gen-key "$@" > /dev/null; }
timeout 20 ceph-authtool --create-keyring "$folder/keyring" --gen-key -n mon. --cap mon 'allow *' > /dev/null
key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
timeout 20 monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon]" "$folder/monmap" > /dev/null
timeout 20 ceph-mon -i a --mkfs --monmap "$folder/monmap" --keyring "$folder/keyring" $as_root
start() {
    "$@" --foreground $as_root > "$folder/$(basename "$1").out" 2>&1 &
    echo $! >> "$folder/pids"
}
start ceph-mon -i a
ask() { timeout 60 ceph --connect-timeout 30 "$@"; }
ask -s > /dev/null
ask auth import -i "$folder/keyring" 2> /dev/null
osd=$(cat /proc/sys/kernel/random/uuid)
ask osd new "$osd" > /dev/null
timeout 60 ceph-osd -i 0 --mkfs --osd-uuid "$osd" $as_root > "$folder/mkfs.out" 2>&1
start ceph-osd -i 0
timeout 120 radosgw-admin -n client.rgw user create --uid walrus --display-name walrus --max-buckets 10000 \
    --access-key WALRUSKEY --secret-key walrus-secret > "$folder/user.out" 2>&1
start radosgw -n client.rgw --rgw-frontends "beast endpoint=127.0.0.1:$s3 tcp_nodelay=1"
for _ in $(seq 300); do
    curl -s -m 2 -o /dev/null "http://127.0.0.1:$s3/" && exit 0
    sleep 0.2
done
echo "radosgw does not answer; see $folder" >&2
exit 1

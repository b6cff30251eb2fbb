# Process 1 of a host: lays the packages over the system folders, joins the network, then waits for its standard
# input to end. With it ends everything on the host.
#
# Settings: ROOM (the host's folder), LAYERS (package folders, space-separated), NAME, and unless the host is the hub:
# HUB (process 1 of the hub, as the outside counts), LINK (name of the link's end at the hub), IPV4, IPV6.
set -eu

# Before /proc is this namespace's own: who we are and who the hub is, as the outside counts.
read -r outside rest < /proc/self/stat

mount -t tmpfs -o mode=755 testbed "$ROOM/volatile"
for folder in usr etc var; do
    mkdir -p "$ROOM/volatile/$folder/upper" "$ROOM/volatile/$folder/work"
    lower=
    for layer in $LAYERS; do
        lower="$lower$layer/$folder:"
    done
    mount -t overlay -o "lowerdir=$lower/$folder,upperdir=$ROOM/volatile/$folder/upper,workdir=$ROOM/volatile/$folder/work" testbed "/$folder"
done
cp -r "$ROOM/etc/." /etc/
mkdir -p /var/spool
for layer in $LAYERS; do
    if [ -d "$layer/var/spool" ]; then cp -a "$layer/var/spool/." "$ROOM/spool/"; fi
done
mount --bind "$ROOM/spool" /var/spool
mount -t tmpfs -o mode=755 testbed /run
hostname "$NAME"

ip link set lo up
if [ -n "${HUB:-}" ]; then
    ip link add eth0 type veth peer name "$LINK" netns "/proc/$HUB/ns/net"
else
    # With an address of its own: else it takes the lowest of its ports', another one when a host comes, and nobody finds it for a while.
    ip link add eth0 address 02:00:00:00:00:01 type bridge
fi
ip address add "$IPV4/24" dev eth0
ip address add "$IPV6/64" dev eth0 nodad
ip link set eth0 up
mount -t proc proc /proc

exec 3<&0
cat <&3 > /dev/null &
echo "$outside"
# The shell also reaps whatever daemons leave behind.
wait "$!"

#!/bin/sh
# The link came up: Restante sends what waits and asks its custodians. Install it, mode 0755, as one of
#
#   /etc/network/if-up.d/restante                    ifupdown: runs for each interface
#   /etc/NetworkManager/dispatcher.d/50-restante     NetworkManager: runs for each change, which $NM_DISPATCHER_ACTION names
#   /etc/networkd-dispatcher/routable.d/50-restante  systemd-networkd with networkd-dispatcher
#   /etc/ppp/ip-up.d/restante                        pppd: dial-up, and many modems
#
# RESTANTE_USER is the user that runs the server.

# NetworkManager tells of everything, and so of what is no link that came up.
case "${NM_DISPATCHER_ACTION:-up} ${CONNECTIVITY_STATE:-}" in
    "connectivity-change NONE") exit 0 ;;
    "up "* | "dhcp4-change "* | "dhcp6-change "* | "connectivity-change "*) ;;
    *) exit 0 ;;
esac
[ "${IFACE:-${DEVICE_IFACE:-}}" = lo ] && exit 0

# In the background, and holding nothing of theirs open: managers of networks wait for their hooks.
(runuser -u "${RESTANTE_USER:-restante}" -- restante link up || logger -t restante "link up: failed") </dev/null >/dev/null 2>&1 &

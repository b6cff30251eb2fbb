#!/bin/sh
# The link came up: Restante sends what waits and asks its custodians. Install it, mode 0755, as one of
#
#   /etc/network/if-up.d/restante                    ifupdown: runs for each interface
#   /etc/NetworkManager/dispatcher.d/50-restante     NetworkManager: runs for each change, which $NM_DISPATCHER_ACTION names
#   /etc/networkd-dispatcher/routable.d/50-restante  systemd-networkd with networkd-dispatcher
#   /etc/ppp/ip-up.d/restante                        pppd: dial-up, and many modems
#
# RESTANTE_USER is the user that runs the server.

case "${NM_DISPATCHER_ACTION:-up}" in up | dhcp4-change | dhcp6-change | connectivity-change) ;; *) exit 0 ;; esac
[ "${IFACE:-}" = lo ] && exit 0

# In the background: managers of networks wait for their hooks.
(runuser -u "${RESTANTE_USER:-restante}" -- restante link up >/dev/null 2>&1 || logger -t restante "link up: failed") &

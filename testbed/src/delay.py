"""A link that takes its time: everything that this host sends over eth0 goes through a TUN device first, and waits there.

usage: delay.py MILLISECONDS IPV4 IPV6

For kernels without netem. Prints a line when it forwards. When it ends, the link is as fast as before.
"""

import collections
import fcntl
import ipaddress
import os
import select
import socket
import struct
import subprocess
import sys
import time

DEVICE = "slow0"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# What waits beyond this is lost, as in a router.
MOST_WAITING = 4096


def run(command):
    subprocess.run(command.split(), check=True)


def open_device():
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    run(f"ip link set {DEVICE} up")
    return tun


def route(ipv4, ipv6):
    """What is sent goes to the device; what the forwarder itself sends, bound to eth0, still finds its way."""
    for version, address, prefix in (("-4", ipv4, 24), ("-6", ipv6, 64)):
        network = ipaddress.ip_interface(f"{address}/{prefix}").network
        run(f"ip {version} route add {network} dev eth0 metric 4096")
        run(f"ip {version} route del {network} dev eth0 proto kernel")
        run(f"ip {version} route add {network} dev {DEVICE} src {address} metric 16")


def main():
    delay, ipv4, ipv6 = float(sys.argv[1]) / 1000, sys.argv[2], sys.argv[3]
    run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0")
    tun = open_device()
    out = {}
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        out[version] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        out[version].setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    route(ipv4, ipv6)
    print("forwards", flush=True)
    waiting = collections.deque()
    while True:
        left = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([tun], [], [], left)
        if ready:
            packet = os.read(tun, 65536)
            if len(waiting) < MOST_WAITING:
                waiting.append((time.monotonic() + delay, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            send(out, waiting.popleft()[1])


def send(out, packet):
    version = packet[0] >> 4
    if version == 4:
        to = (socket.inet_ntop(socket.AF_INET, packet[16:20]), 0)
    else:
        to = (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0)
    try:
        out[version].sendto(packet, to)
    except OSError:
        # The link is down, or nobody is there: it is lost.
        pass


main()

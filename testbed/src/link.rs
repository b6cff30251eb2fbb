//! Bad links: slow ones, ones that lose packets, ones that are down; and what came over them.
//!
//! By what the kernel has without netem: a token bucket, a random drop in the packet filter, a TUN device, and the link itself.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::host::{Host, Process, ipv4, ipv6};
use crate::wait;

/// Begins a TCP connection; the answer of the other side.
const ANSWER: &str = "tcp flags & (syn | ack) == syn | ack";
/// The first packet of one.
const BEGINNING: &str = "tcp flags & (syn | ack) == syn";

/// What came in over TCP from one port, or to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Octets, without the headers of IP and TCP. What TCP itself sent twice counts twice.
    pub octets: u64,
    /// Connections that were opened.
    pub connections: u64,
}

/// Octets of the headers of IPv4 and of IPv6, each with TCP's and its time stamps.
const HEADERS: [(&str, u64); 2] = [("ipv4", 20 + 32), ("ipv6", 40 + 32)];

impl Host {
    /// Sends no more than this rate (as `tc` writes it: `64kbit`, `4mbit`), with a short queue before it.
    ///
    /// # Errors
    /// When the kernel will not have it.
    pub fn limit_rate(&self, rate: &str) -> Result<()> {
        let shape = ["rate", rate, "burst", "32k", "latency", "200ms"];
        self.run(&[&["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf"], &shape[..]].concat()).map(drop)
    }

    /// Sends no more than this rate, as over a modem: without a burst, and what is too much waits for up to 100 ms.
    ///
    /// # Errors
    /// When the kernel will not have it.
    pub fn slow_down(&self, rate: &str) -> Result<()> {
        // Others may take what is sent at once, over a wire without any delay, for the rate of the link.
        self.run(&["sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"])?;
        let shape = ["rate", rate, "burst", "4k", "latency", "100ms"];
        self.run(&[&["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf"], &shape[..]].concat()).map(drop)
    }

    /// Loses this many of a thousand packets that come in. Needs [`crate::PackageSet::Firewall`] on the host.
    ///
    /// # Errors
    /// When the kernel will not have it.
    pub fn lose_packets(&self, permille: u32) -> Result<()> {
        let rule = format!("iif \"eth0\" numgen random mod 1000 < {permille} drop");
        let chain = format!("chain in {{\ntype filter hook input priority 0\n{rule}\n}}");
        let table = format!("table inet loss {{\n{chain}\n}}\n");
        self.run_with_input(&["nft", "-f", "-"], table.as_bytes()).map(drop)
    }

    /// Makes everything that this host sends wait before it leaves, for as long as the process lives: a round trip takes so much
    /// longer. The link must stay as it is meanwhile.
    ///
    /// # Errors
    /// When the kernel will not have it.
    pub fn delay(&self, by: Duration) -> Result<Process> {
        let script = self.room().join("delay.py");
        fs::write(&script, include_str!("delay.py"))?;
        let (script, by) = (script.display().to_string(), by.as_millis().to_string());
        let (v4, v6) = (self.ipv4().to_string(), self.ipv6().to_string());
        let mut process = self.spawn("delay", &["/usr/bin/python3", &script, &by, &v4, &v6])?;
        let log = wait::until("a link that takes its time", wait::LONG, || {
            let log = process.log();
            (log.contains("forwards") || !process.is_alive()).then_some(log)
        })?;
        ensure!(log.contains("forwards"), "on {}: {log}", self.name());
        Ok(process)
    }

    /// Unplugs the host.
    ///
    /// # Errors
    /// When the link cannot be taken down.
    pub fn unplug(&self) -> Result<()> {
        self.run(&["ip", "link", "set", "eth0", "down"]).map(drop)
    }

    /// Plugs it in again, under the same addresses.
    ///
    /// # Errors
    /// When the link cannot be brought up.
    pub fn plug_in(&self) -> Result<()> {
        self.run(&["ip", "link", "set", "eth0", "up"])?;
        // An IPv6 address is gone with the link.
        let address = format!("{}/64", self.ipv6());
        self.run(&["ip", "address", "replace", &address, "dev", "eth0", "nodad"]).map(drop)
    }

    /// Plugs it in again as a modem that has dialled anew: under other addresses, so that every connection from before is
    /// dead and nobody tells. `number` is the last part of the addresses; the sandbox gives out low ones.
    ///
    /// # Errors
    /// When the link cannot be brought up.
    pub fn dial_in(&self, number: u8) -> Result<()> {
        let (v4, v6) = (format!("{}/24", ipv4(number)), format!("{}/64", ipv6(number)));
        // Nothing that is still under way to the old addresses finds the way.
        let hardware = format!("02:00:00:00:00:{number:02x}");
        self.run(&["ip", "address", "flush", "dev", "eth0"])?;
        self.run(&["ip", "link", "set", "eth0", "address", &hardware])?;
        self.run(&["ip", "link", "set", "eth0", "up"])?;
        self.run(&["ip", "address", "add", &v4, "dev", "eth0"])?;
        self.run(&["ip", "address", "add", &v6, "dev", "eth0", "nodad"]).map(drop)
    }

    /// As [`Host::unplug`], and both ends know at once: all TCP connections between this host and `other` are over.
    ///
    /// # Errors
    /// When the link cannot be taken down.
    pub fn hang_up(&self, other: &Self) -> Result<()> {
        self.unplug()?;
        for (end, far) in [(self, other), (other, self)] {
            // It complains of sockets that cannot be closed so; those that can are closed.
            for address in [far.ipv4().to_string(), format!("[{}]", far.ipv6())] {
                end.output(&["ss", "--kill", "--tcp", "dst", &address], b"")?;
            }
        }
        Ok(())
    }

    /// Begins to count what comes in from this TCP port. Needs [`crate::PackageSet::Firewall`] on the host.
    ///
    /// # Errors
    /// When the kernel will not have it.
    pub fn count_from(&self, port: u16) -> Result<()> {
        self.count(&format!("tcp sport {port}"), ANSWER)
    }

    /// Begins to count what comes in to this TCP port, instead.
    ///
    /// # Errors
    /// When the kernel will not have it.
    pub fn count_to(&self, port: u16) -> Result<()> {
        self.count(&format!("tcp dport {port}"), BEGINNING)
    }

    fn count(&self, packets: &str, opening: &str) -> Result<()> {
        let mut table = String::from("table inet count {\ncounter opened { }\n");
        for (version, _) in HEADERS {
            table.push_str(&format!("counter {version} {{ }}\n"));
        }
        table.push_str("chain in {\ntype filter hook input priority 0\n");
        for (version, _) in HEADERS {
            table.push_str(&format!("meta nfproto {version} {packets} counter name {version}\n"));
        }
        table.push_str(&format!("{packets} {opening} counter name opened\n}}\n}}\n"));
        self.run_with_input(&["nft", "-f", "-"], table.as_bytes()).map(drop)
    }

    /// What came in since [`Host::count_from`] or [`Host::count_to`].
    ///
    /// # Errors
    /// When nothing is counted.
    pub fn counted(&self) -> Result<Counted> {
        let mut octets = 0;
        for (version, header) in HEADERS {
            let (packets, all) = self.counter(version)?;
            octets += all.saturating_sub(packets * header);
        }
        Ok(Counted { octets, connections: self.counter("opened")?.0 })
    }

    /// Segments of TCP that came in although they had come before: over a link that loses or delays packets TCP itself sends some
    /// twice. Since the host's beginning, from everybody.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn duplicates(&self) -> Result<u64> {
        let text = self.run(&["cat", "/proc/net/netstat"])?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let (names, values) = lines.next().zip(lines.next()).context("the kernel counts nothing")?;
        let counted = names.split_whitespace().zip(values.split_whitespace());
        let duplicates = counted.filter(|(name, _)| ["TCPDSACKOldSent", "TCPDSACKOfoSent"].contains(name));
        Ok(duplicates.filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
    }

    /// Packets and octets.
    fn counter(&self, name: &str) -> Result<(u64, u64)> {
        let text = self.run(&["nft", "list", "counter", "inet", "count", name])?;
        let after = |word: &str| {
            let mut words = text.split_whitespace().skip_while(|found| *found != word).skip(1);
            words.next().and_then(|number| number.parse::<u64>().ok()).context("a counter without a count")
        };
        Ok((after("packets")?, after("bytes")?))
    }
}

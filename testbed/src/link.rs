//! Bad links: slow ones, ones that lose packets, ones that are down.
//!
//! By what the kernel has without netem: a token bucket, a random drop in the packet filter, and the link itself.

use anyhow::Result;

use crate::host::Host;

impl Host {
    /// Sends no more than this rate (as `tc` writes it: `64kbit`, `4mbit`), with a short queue before it.
    ///
    /// # Errors
    /// When the kernel will not have it.
    pub fn limit_rate(&self, rate: &str) -> Result<()> {
        let shape = ["rate", rate, "burst", "32k", "latency", "200ms"];
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
}

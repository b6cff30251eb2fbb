//! The sandbox's name server: dnsmasq, authoritative for everything, answering NXDOMAIN to what it was not told.
//!
//! It leaves to [`crate::Sandbox`] on which host it runs and what is in it. Its answers have a lifetime of zero.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::host::{Host, Process};
use crate::wait;

/// One record set in the sandbox's name server.
#[derive(Debug, Clone)]
pub enum Record {
    /// A, AAAA and both PTR of a host.
    Host(String, Ipv4Addr, Ipv6Addr),
    /// MX: domain, preference, host.
    Mx(String, u16, String),
    /// A domain that takes no mail (RFC 7505).
    NullMx(String),
    /// TXT: name, text (split into strings of 255 octets).
    Txt(String, String),
    /// CNAME: alias, target (which must be a name that the server knows).
    Cname(String, String),
    /// Any type: name, type number, RDATA.
    Raw(String, u16, Vec<u8>),
}

impl Record {
    /// Whose record it is.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Host(name, ..)
            | Self::Mx(name, ..)
            | Self::NullMx(name)
            | Self::Txt(name, _)
            | Self::Cname(name, _)
            | Self::Raw(name, ..) => name,
        }
    }

    /// The same record at another name.
    pub(crate) fn at(&self, new: &str) -> Self {
        let mut record = self.clone();
        match &mut record {
            Self::Host(name, ..)
            | Self::Mx(name, ..)
            | Self::NullMx(name)
            | Self::Txt(name, _)
            | Self::Cname(name, _)
            | Self::Raw(name, ..) => new.clone_into(name),
        }
        record
    }

    fn line(&self) -> String {
        match self {
            Self::Host(name, v4, v6) => format!("host-record={name},{v4},{v6}"),
            Self::Mx(domain, preference, host) => format!("mx-host={domain},{host},{preference}"),
            Self::NullMx(domain) => raw(domain, 15, &[0, 0, 0]),
            Self::Txt(name, text) => raw(name, 16, &character_strings(text)),
            Self::Cname(alias, target) => format!("cname={alias},{target}"),
            Self::Raw(name, kind, data) => raw(name, *kind, data),
        }
    }
}

fn raw(name: &str, kind: u16, data: &[u8]) -> String {
    let mut line = format!("dns-rr={name},{kind},");
    for octet in data {
        // Writing to a String cannot fail.
        let _ = write!(line, "{octet:02x}");
    }
    line
}

pub(crate) fn character_strings(text: &str) -> Vec<u8> {
    let mut data = Vec::new();
    for part in text.as_bytes().chunks(255) {
        data.extend(u8::try_from(part.len()));
        data.extend_from_slice(part);
    }
    data
}

/// The running name server and what it was told.
#[derive(Debug)]
pub(crate) struct NameServer {
    process: Option<Process>,
    records: Vec<Record>,
}

impl NameServer {
    pub(crate) fn new() -> Self {
        Self { process: None, records: Vec::new() }
    }

    /// What it was told.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Forgets all records of these names.
    pub(crate) fn forget(&mut self, names: &[&str]) {
        self.records.retain(|record| !names.contains(&record.name()));
    }

    /// Adds `records` and starts the server anew on `host`; it answers when this returns.
    pub(crate) fn add(&mut self, host: &Host, records: &[Record]) -> Result<()> {
        self.records.extend_from_slice(records);
        let address = (IpAddr::V4(host.ipv4()), 53);
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            // A child of its that serves a connection keeps the sockets for a moment: the next server could not have them, and
            // the child would be taken for it.
            let gone = || host.connect(address).is_err().then_some(());
            wait::until("the name server before to go", wait::LONG, gone)?;
        }
        let file = host.room().join("dnsmasq.conf");
        let mut text = format!(
            "user=root\ngroup=root\nkeep-in-foreground\nlog-facility=-\nno-hosts\nno-resolv\nlocal=/#/\n\
             bind-interfaces\nlisten-address={}\nlisten-address={}\npid-file={}\n",
            host.ipv4(),
            host.ipv6(),
            host.room().join("dnsmasq.pid").display()
        );
        for record in &self.records {
            text.push_str(&record.line());
            text.push('\n');
        }
        fs::write(&file, text)?;
        let config = format!("--conf-file={}", file.display());
        let process = self.process.insert(host.spawn("dnsmasq", &["/usr/sbin/dnsmasq", &config])?);
        wait::until("the name server", wait::LONG, || process.is_alive().then(|| host.connect(address).ok())?)?;
        Ok(())
    }
}

//! Whom this server connects to: next hops, LMTP servers, resolvers, and how.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use mail::Domain;
use net::dns::{Anchors, Dnssec, Source};
use net::milter::Endpoint;

use super::tuning::at_least;
use crate::config::read::{Cursor, Server};
use crate::config::values::HostName;
use crate::config::{Lmtp, LmtpEndpoint, Login, Milter, Outgoing, Relay, RelayTls, Resolver, WithoutVerdict};

/// `[[relay]]`, by name: those that take mail by SMTP, and the custodians that it is uploaded to.
pub(super) fn relays(root: &Cursor<'_>) -> (BTreeMap<String, Relay>, BTreeMap<String, Domain>) {
    let (mut relays, mut uploads) = (BTreeMap::new(), BTreeMap::new());
    for (name, hop) in by_name(root.children("relay"), next_hop, NextHop::name) {
        match hop {
            NextHop::Smtp(relay) => drop(relays.insert(name, relay)),
            NextHop::Upload(_, custodian) => drop(uploads.insert(name, custodian)),
        }
    }
    (relays, uploads)
}

/// `[[lmtp]]`, by name.
pub(super) fn lmtp(root: &Cursor<'_>) -> BTreeMap<String, Lmtp> {
    by_name(root.children("lmtp"), lmtp_server, |server| &server.name)
}

fn by_name<'a, T>(
    tables: Vec<Cursor<'a>>,
    read: impl Fn(&Cursor<'a>) -> Option<T>,
    name: impl Fn(&T) -> &String,
) -> BTreeMap<String, T> {
    let mut named = BTreeMap::new();
    for table in tables {
        if let Some(item) = read(&table) {
            if named.contains_key(name(&item)) {
                table.mistake("name", format!("`{}` is configured twice", name(&item)), "give each its own name");
            }
            named.insert(name(&item).clone(), item);
        }
        table.finish();
    }
    named
}

const TLS: [(&str, RelayTls); 5] = [
    ("verified", RelayTls::Verified),
    ("implicit", RelayTls::Implicit),
    ("required", RelayTls::Required),
    ("opportunistic", RelayTls::Opportunistic),
    ("off", RelayTls::Off),
];

/// A custodian as the mail server that is asked for mail by value. Its settings are read where its host is wrong, too.
pub(super) fn custodian(table: &Cursor<'_>, host: Option<&Domain>, usual_port: u16) -> Option<Relay> {
    let port: Option<u16> = table.get("port");
    let chosen = table.choice("tls", &TLS);
    let tls = if table.has("tls") { chosen } else { Some(RelayTls::Verified) };
    let login = login(table, tls);
    let (host, port) = (host?, port.unwrap_or(usual_port));
    Some(Relay { name: host.to_string(), host: HostName::Name(host.clone()), port, tls: tls?, login, tbr: false })
}

enum NextHop {
    Smtp(Relay),
    /// Its name, and the custodian's repository host.
    Upload(String, Domain),
}

impl NextHop {
    fn name(&self) -> &String {
        match self {
            Self::Smtp(relay) => &relay.name,
            Self::Upload(name, _) => name,
        }
    }
}

fn next_hop(table: &Cursor<'_>) -> Option<NextHop> {
    let custodian: Option<Domain> = table.get("custodian");
    let relay = relay(table);
    if !table.has("custodian") {
        if !table.has("host") {
            let help =
                "add a line such as: host = \"smtp.provider.example\"; a custodian that mail is uploaded to: custodian";
            table.mistake("name", "[[relay]] lacks `host`", help);
        }
        return relay.map(NextHop::Smtp);
    }
    for field in ["host", "port", "tls", "username", "password_file", "tbr"] {
        if table.has(field) {
            let message = format!("`{field}` is for a relay by SMTP: to this one mail is uploaded over HTTPS");
            table.mistake(field, message, "leave it out, or leave out `custodian`");
        }
    }
    Some(NextHop::Upload(table.get("name")?, custodian?))
}

fn relay(table: &Cursor<'_>) -> Option<Relay> {
    let name = table.get("name");
    let (host, port) = (table.get("host"), table.get("port"));
    let tls = table.choice("tls", &TLS);
    let login = login(table, tls);
    let tbr = table.get("tbr");
    Some(Relay { name: name?, host: host?, port: port?, tls: tls?, login, tbr: tbr? })
}

fn login(table: &Cursor<'_>, tls: Option<RelayTls>) -> Option<Login> {
    let username: Option<String> = table.get("username");
    let password_file: Option<PathBuf> = table.get("password_file");
    match (&username, &password_file) {
        (Some(_), None) => table.mistake("username", "there is no password for it", "add `password_file`"),
        (None, Some(_)) => table.mistake("password_file", "there is no user name for it", "add `username`"),
        _ => {}
    }
    let safe = tls.is_none_or(|tls| matches!(tls, RelayTls::Verified | RelayTls::Implicit));
    if username.is_some() && !safe {
        let message = "the password could be read or given to a stranger on the way";
        table.mistake("tls", message, "with `username`, set tls = \"verified\" or \"implicit\"");
    }
    Some(Login { username: username?, password_file: password_file? })
}

fn lmtp_server(table: &Cursor<'_>) -> Option<Lmtp> {
    let name = table.get("name");
    let host: Option<HostName> = table.get("host");
    let port: Option<u16> = table.get("port");
    let socket: Option<PathBuf> = table.get("socket");
    let written = (table.has("host"), table.has("port"), table.has("socket"));
    let endpoint = match (host, port, socket) {
        (Some(host), Some(port), None) => Some(LmtpEndpoint::Tcp(host, port)),
        (None, None, Some(path)) => Some(LmtpEndpoint::Unix(path)),
        _ => None,
    };
    if !matches!(written, (true, true, false) | (false, false, true)) {
        table.mistake("name", "it is not clear where this LMTP server listens", "set `host` and `port`, or `socket`");
    }
    Some(Lmtp { name: name?, endpoint: endpoint? })
}

/// `[[milter]]`, in order.
pub(super) fn milters(root: &Cursor<'_>) -> Vec<Milter> {
    let tables = root.children("milter").into_iter();
    let milters = tables.filter_map(|table| {
        let milter = milter(&table);
        table.finish();
        milter
    });
    milters.collect()
}

fn milter(table: &Cursor<'_>) -> Option<Milter> {
    const WITHOUT: [(&str, WithoutVerdict); 2] = [("defer", WithoutVerdict::Defer), ("accept", WithoutVerdict::Accept)];
    let address: Option<SocketAddr> = table.get("address");
    let socket: Option<PathBuf> = table.get("socket");
    let (timeout, without_verdict) = (table.get("timeout"), table.choice("without_verdict", &WITHOUT));
    if table.has("address") == table.has("socket") {
        table.mistake("address", "it is not clear where this milter listens", "set `address` or `socket`");
    }
    let endpoint = address.map(Endpoint::Tcp).or(socket.map(Endpoint::Unix));
    Some(Milter { endpoint: endpoint?, timeout: timeout?, without_verdict: without_verdict? })
}

/// `[resolver]`
pub(super) fn resolver(table: Cursor<'_>) -> Option<Resolver> {
    let servers: Option<Vec<Server>> = table.get("servers");
    let zone_file: Option<PathBuf> = table.get("zone_file");
    if table.has("servers") && table.has("zone_file") {
        table.mistake("zone_file", "names come from servers or from a file, not from both", "leave one of them out");
    }
    if servers.as_ref().is_some_and(Vec::is_empty) {
        table.mistake("servers", "there is no server to ask", "leave `servers` out to use /etc/resolv.conf");
    }
    let dnssec = dnssec(&table);
    table.finish();
    let source = match (servers, zone_file) {
        (_, Some(path)) => Source::ZoneFile(path),
        (Some(servers), None) => Source::NameServers(servers.into_iter().map(|server| server.0).collect()),
        (None, None) => Source::System,
    };
    Some(Resolver { source, dnssec: dnssec? })
}

fn dnssec(table: &Cursor<'_>) -> Option<Dnssec> {
    const WAYS: [(&str, Way); 3] = [("validate", Way::Validate), ("trust", Way::Trust), ("off", Way::Off)];
    #[derive(Clone, Copy, PartialEq)]
    enum Way {
        Validate,
        Trust,
        Off,
    }
    let (way, anchors): (_, Option<PathBuf>) = (table.choice("dnssec", &WAYS), table.get("trust_anchor_file"));
    if table.has("trust_anchor_file") && way.is_some_and(|way| way != Way::Validate) {
        table.mistake("trust_anchor_file", "nothing is validated here", "set dnssec = \"validate\", or leave it out");
    }
    Some(match way? {
        Way::Validate => Dnssec::Validate(anchors.map_or(Anchors::Iana, Anchors::File)),
        Way::Trust => Dnssec::Trust,
        Way::Off => Dnssec::Off,
    })
}

/// `[outgoing]`
pub(super) fn outgoing(table: Cursor<'_>) -> Option<Outgoing> {
    let (smtp_port, https_port) = (table.get("smtp_port"), table.get("https_port"));
    let (bind_ipv4, bind_ipv6) = (table.get("bind_ipv4"), table.get("bind_ipv6"));
    let allow_private_addresses = table.get("allow_private_addresses");
    let (dane, mta_sts, ca_file) = (table.get("dane"), table.get("mta_sts"), table.get("ca_file"));
    let max_connections = at_least(&table, "max_connections", 1);
    let max_connections_per_host = at_least(&table, "max_connections_per_host", 1);
    let (idle_timeout, probe_lifetime) = (table.get("idle_timeout"), table.get("probe_lifetime"));
    table.finish();
    Some(Outgoing {
        smtp_port: smtp_port?,
        https_port: https_port?,
        bind_ipv4,
        bind_ipv6,
        allow_private_addresses: allow_private_addresses?,
        dane: dane?,
        mta_sts: mta_sts?,
        ca_file,
        max_connections: max_connections?,
        max_connections_per_host: max_connections_per_host?,
        idle_timeout: idle_timeout?,
        probe_lifetime: probe_lifetime?,
    })
}

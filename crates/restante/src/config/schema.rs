//! The one table of the configuration's sections and fields. Reading goes by it, so does everything that is printed.
//!
//! What a value means is left to `check`; a field that stands here and is not read, or the reverse, is found by a test.

use Presence::{Default, Optional, Or, Required};

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// Its path; empty for what stands before the first table.
    pub(super) name: &'static str,
    /// `[[name]]`: any number of them.
    pub(super) many: bool,
    /// What it is for.
    pub(super) doc: &'static str,
    /// In the order in which they are printed.
    pub(super) fields: &'static [Field],
    /// More examples, below them.
    pub(super) more: &'static [&'static str],
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// What it holds, in a word or two.
    pub(super) kind: &'static str,
    /// Whether it must be there.
    pub(super) presence: Presence,
    /// When a change takes effect.
    pub(super) effect: Effect,
    /// What it does.
    pub(super) doc: &'static str,
}

/// Whether a field must be there. Texts are TOML values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Presence {
    /// It must; an example.
    Required(&'static str),
    /// It need not; what holds then.
    Default(&'static str),
    /// It need not, and then there is no such thing; an example.
    Optional(&'static str),
    /// The same, but it excludes the field before it.
    Or(&'static str),
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// SIGHUP.
    Reload,
    /// The next start.
    Restart,
}

const fn field(name: &'static str, kind: &'static str, presence: Presence, doc: &'static str) -> Field {
    Field { name, kind, presence, effect: Effect::Reload, doc }
}

/// A field that takes effect at the next start only.
const fn fixed(name: &'static str, kind: &'static str, presence: Presence, doc: &'static str) -> Field {
    Field { name, kind, presence, effect: Effect::Restart, doc }
}

const fn section_of(name: &'static str, many: bool, doc: &'static str, fields: &'static [Field]) -> Section {
    Section { name, many, doc, fields, more: &[] }
}

/// Variables of the environment that are laid over the file, with the field that each replaces.
pub(super) const VARIABLES: [(&str, &str, &str); 4] = [
    ("RESTANTE_HOSTNAME", "", "hostname"),
    ("RESTANTE_DATA_DIR", "", "data_dir"),
    ("RESTANTE_ADMIN_SOCKET", "admin", "socket"),
    ("RESTANTE_LOG", "log", "level"),
];

/// Their names.
pub(super) fn variables() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|(variable, ..)| *variable)
}

/// The section of this path.
pub(super) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The whole configuration, in the order in which it is printed.
pub(super) const SECTIONS: &[Section] = &[
    section_of("", false, "The server as a whole.", ROOT),
    section_of("admin", false, "The admin API, which `restante queue`, `trace` and `send` use.", ADMIN),
    section_of("log", false, "The log, on standard error.", LOG),
    Section {
        name: "listener",
        many: true,
        doc: "Where the server listens. Without any, it only sends what `restante send` hands in.",
        fields: LISTENER,
        more: &[
            "kind = \"submissions\"\naddress = \"0.0.0.0:465\"",
            "kind = \"repository\"\naddress = \"0.0.0.0:443\"",
        ],
    },
    section_of(
        "certificate",
        true,
        "Certificates, chosen by the name that the client asks for (SNI); the first serves all others. The files are \
              read again when they change; a longer or shorter list takes a restart.",
        CERTIFICATE,
    ),
    section_of("tls", false, "TLS on all listeners and connections.", TLS),
    section_of(
        "domain",
        true,
        "A domain whose mail is accepted here. Mail for any other domain is relayed only for authenticated users and \
              for `relay_from`.",
        DOMAIN,
    ),
    section_of(
        "domain.tbr",
        false,
        "Lets the domain above send by reference. `restante keys generate` makes the key and prints the DNS records to \
              publish. Without this table its messages go by value.",
        DOMAIN_TBR,
    ),
    section_of("relay", true, "A next hop, named by `smart_host` or by `deliver = \"relay:<name>\"`.", RELAY),
    section_of(
        "lmtp",
        true,
        "An LMTP server (RFC 2033), such as Dovecot's, named by `deliver = \"lmtp:<name>\"`.",
        LMTP,
    ),
    section_of("resolver", false, "Name resolution. Without either field: `/etc/resolv.conf`.", RESOLVER),
    section_of("outgoing", false, "Connections that this server makes.", OUTGOING),
    section_of(
        "transfer",
        false,
        "By reference (TBR) or by value. The times are those of the protocol: change them only together with its \
              specification at hand.",
        TRANSFER,
    ),
    section_of("transfer.peer", true, "A policy for one recipient domain.", TRANSFER_PEER),
    section_of("queue", false, "Retry, expiry and reports.", QUEUE),
    section_of("limits", false, "What clients may ask for.", LIMITS),
    section_of("store", false, "Where messages and the ledger are kept.", STORE),
];

const ROOT: &[Field] = &[
    fixed(
        "hostname",
        "domain name",
        Required("\"mx.a.example\""),
        "This server's name in greetings and trace fields. Its address and reverse name should agree with it: many \
         receivers check. RESTANTE_HOSTNAME overrides it.",
    ),
    fixed(
        "data_dir",
        "path",
        Default("\"/var/lib/restante\""),
        "Everything that the server keeps: the store, the accounts, the admin socket. RESTANTE_DATA_DIR overrides it.",
    ),
    field(
        "postmaster",
        "address",
        Optional("\"alice@a.example\""),
        "Who gets the mail for postmaster, which every mail server must accept (RFC 5321 §4.5.1), of domains that name \
         nobody for it.",
    ),
    fixed(
        "relay_from",
        "list of networks",
        Default("[]"),
        "Clients that may send to any domain on relay listeners without authentication, such as `[\"127.0.0.0/8\", \
         \"::1/128\"]`. Networks so wide that the server would be an open relay are refused.",
    ),
    field("smart_host", "relay name", Optional("\"provider\""), "All mail for other domains goes to this [[relay]]."),
];

const ADMIN: &[Field] = &[fixed(
    "socket",
    "path",
    Optional("\"/run/restante/admin.sock\""),
    "UNIX socket of the admin API; `admin.sock` in `data_dir` if not given. Whoever may open it may do everything: it is \
     made with mode 0600. RESTANTE_ADMIN_SOCKET overrides it.",
)];

const LOG: &[Field] = &[
    fixed(
        "level",
        "log filter",
        Default("\"info\""),
        "error, warn, info, debug or trace, also per module: `info,restante::deliver=debug`. RESTANTE_LOG overrides it.",
    ),
    fixed("json", "true or false", Default("false"), "One JSON object a line instead of text."),
];

const LISTENER: &[Field] = &[
    fixed(
        "kind",
        "word",
        Required("\"relay\""),
        "`relay`: SMTP between servers, port 25. `submissions`: mail programs, TLS from the first octet, port 465. \
         `submission`: mail programs, STARTTLS, port 587. `repository`: HTTPS, from where peers fetch messages sent by \
         reference, port 443.",
    ),
    fixed(
        "address",
        "address:port",
        Required("\"0.0.0.0:25\""),
        "IPv4 or IPv6 address and port: `0.0.0.0:25`, `[::]:25`. `[::]` does not include IPv4. Port 0 takes a free port.",
    ),
    fixed("tbr", "true or false", Default("true"), "Relay only: take messages by reference (EHLO says `TBR 1`)."),
    fixed(
        "tbr_without_tls",
        "true or false",
        Default("false"),
        "Relay only: take them outside TLS too. Grants then travel in clear: for loopback and private links.",
    ),
    fixed(
        "auth_without_tls",
        "true or false",
        Default("false"),
        "Submission only: offer AUTH outside TLS too. Passwords then travel in clear: for loopback.",
    ),
    fixed("max_connections", "number", Default("1000"), "Most connections at once; more get 421."),
    fixed(
        "max_connections_per_ip",
        "number",
        Default("50"),
        "Most connections at once from one IPv4 address or IPv6 /64; more get 421.",
    ),
];

const CERTIFICATE: &[Field] = &[
    fixed(
        "cert",
        "path",
        Required("\"/etc/restante/tls/fullchain.pem\""),
        "PEM: the certificate, then its intermediates.",
    ),
    fixed("key", "path", Required("\"/etc/restante/tls/privkey.pem\""), "PEM: its private key."),
];

const TLS: &[Field] = &[fixed(
    "min_version",
    "version",
    Default("\"1.2\""),
    "`1.2` or `1.3`. Retrieval of messages sent by reference uses 1.3 in any case.",
)];

const DOMAIN: &[Field] = &[
    field(
        "name",
        "domain name",
        Required("\"a.example\""),
        "The part after the @. U-labels (bücher.example) are fine.",
    ),
    field(
        "deliver",
        "word",
        Default("\"maildir\""),
        "`maildir`, `lmtp:<name>`, `relay:<name>` (to a next hop), or `discard` (counted and thrown away, for measuring).",
    ),
    field(
        "maildir",
        "path with {user}",
        Optional("\"/var/mail/{domain}/{user}\""),
        "With `maildir`: where the Maildirs are; `mail/{domain}/{user}` in `data_dir` if not given. They are made when \
         first needed. Odd characters in a user's name are written as %XX.",
    ),
    field(
        "recipients",
        "word or table",
        Default("\"accounts\""),
        "Who is in the domain; everybody else is refused at RCPT. `accounts`: the addresses of `restante accounts`. \
         `{ list = [\"alice\", \"bob\"] }`. `{ file = \"recipients\" }`: one name or address a line. `probe`: the LMTP server \
         or next hop is asked. `any`: everybody.",
    ),
    field(
        "aliases",
        "table of addresses",
        Default("{}"),
        "`{ info = [\"alice\", \"bob@b.example\"] }`: mail for info goes to those instead; a name without @ is in this \
         domain. An alias may lead to another alias.",
    ),
    field(
        "alias_file",
        "path",
        Optional("\"/etc/restante/aliases\""),
        "More aliases, as in /etc/aliases: `info: alice, bob@b.example`. Commands, files and :include: are refused.",
    ),
    field("catch_all", "address", Optional("\"alice@a.example\""), "Who gets mail for names that nobody has."),
    field(
        "subaddress_separator",
        "character",
        Default("\"+\""),
        "`alice+lists` is delivered to alice if nobody has the whole name. Empty: no such thing.",
    ),
];

const DOMAIN_TBR: &[Field] = &[
    field("selector", "name", Required("\"k1\""), "Name of the key: its record is at `<selector>._tbr.<domain>`."),
    field(
        "key",
        "path",
        Required("\"/etc/restante/keys/a.example.k1.pem\""),
        "The Ed25519 key, PKCS#8 PEM, mode 0600.",
    ),
    field(
        "repository",
        "host name",
        Optional("\"tbr.a.example\""),
        "Where peers fetch the messages: a name of this server, in the `_tbr` record and in a certificate; `tbr.<domain>` if \
         not given.",
    ),
    field(
        "subdomains",
        "true or false",
        Default("false"),
        "The key also signs for senders in subdomains (`sub=y` in the record).",
    ),
];

const RELAY: &[Field] = &[
    field("name", "name", Required("\"provider\""), "By which the rest of the configuration names it."),
    field("host", "host", Required("\"smtp.provider.example\""), "Host name or address; MX records are not asked for."),
    field("port", "port", Default("25"), "25, 587 or 465 in most places."),
    field(
        "tls",
        "word",
        Default("\"verified\""),
        "`verified`: STARTTLS with a good certificate for the host, or no mail. `implicit`: the same in TLS from the first \
         octet, as on port 465. `required`: any certificate. `opportunistic`: in clear where there is no STARTTLS. `off`.",
    ),
    field(
        "username",
        "text",
        Optional("\"a-example\""),
        "For AUTH; needs `password_file` and TLS that is `verified` or `implicit`.",
    ),
    field("password_file", "path", Optional("\"/etc/restante/provider.password\""), "Its first line is the password."),
    field("tbr", "true or false", Default("false"), "Offer it messages by reference where it speaks TBR."),
];

const LMTP: &[Field] = &[
    field("name", "name", Required("\"dovecot\""), "By which the rest of the configuration names it."),
    field("host", "host", Optional("\"127.0.0.1\""), "Host name or address."),
    field("port", "port", Optional("24"), "Port; needs `host`."),
    field("socket", "path", Or("\"/run/dovecot/lmtp\""), "UNIX socket, instead of `host` and `port`."),
];

const RESOLVER: &[Field] = &[
    fixed(
        "servers",
        "list of addresses",
        Optional("[\"127.0.0.1:53\"]"),
        "Ask these servers; the port is 53 if not given.",
    ),
    fixed(
        "zone_file",
        "path",
        Or("\"/etc/restante/zone\""),
        "Ask nobody: all names are in this file, in the form of RFC 1035 §5. For tests and closed networks.",
    ),
];

const OUTGOING: &[Field] = &[
    fixed("smtp_port", "port", Default("25"), "Port of mail exchangers."),
    fixed("https_port", "port", Default("443"), "Port of repositories and domain documents."),
    fixed("bind_ipv4", "IPv4 address", Optional("\"192.0.2.25\""), "Source address of IPv4 connections."),
    fixed("bind_ipv6", "IPv6 address", Optional("\"2001:db8::25\""), "Source address of IPv6 connections."),
    fixed(
        "allow_private_addresses",
        "true or false",
        Default("false"),
        "Connect to repositories at private, loopback and link-local addresses. A stranger's reference could then aim this \
         server at your own network.",
    ),
    fixed("ca_file", "path", Optional("\"/etc/restante/ca.pem\""), "PEM: trust these CAs instead of the system's."),
    fixed("max_connections", "number", Default("500"), "Most SMTP and LMTP connections at once."),
    fixed("idle_timeout", "duration", Default("\"10s\""), "How long an idle connection waits for the next message."),
    fixed(
        "probe_lifetime",
        "duration",
        Default("\"1h\""),
        "How long an answer about a recipient (`recipients = \"probe\"`) is believed; a refusal for a sixth of it.",
    ),
];

const TRANSFER: &[Field] = &[
    field(
        "policy",
        "word",
        Default("\"prefer\""),
        "`prefer`: by reference where the peer speaks TBR, else by value. `require`: by reference or not now. `never`.",
    ),
    field(
        "by_value_below",
        "size",
        Default("\"16 KiB\""),
        "Smaller messages go by value: one transaction costs less than reference, retrieval, claim and receipt.",
    ),
    field(
        "lifetime",
        "duration",
        Default("\"5d\""),
        "How long a reference can be claimed, at most 30 days; then the author is told.",
    ),
    field(
        "claim_patience",
        "duration",
        Default("\"1h\""),
        "A claim without an answer for this long is acted upon: better a second copy than a loss.",
    ),
    field(
        "receipt_patience",
        "duration",
        Default("\"24h\""),
        "Receipts that the origin has not taken for this long become a report by mail.",
    ),
    field("expiry_grace", "duration", Default("\"15m\""), "After a reference's end, before its expiry is recorded."),
    field(
        "fall_back_after_refusals",
        "duration",
        Default("\"1h\""),
        "Temporary refusals of the reference itself for this long: by value.",
    ),
    field(
        "fall_back_without_claim",
        "duration",
        Default("\"2h\""),
        "Accepted and not claimed for this long: the offer is made once more, then by value.",
    ),
    fixed(
        "verification_budget",
        "duration",
        Default("\"5s\""),
        "For verifying an offer within the SMTP session, at most 1 minute.",
    ),
    fixed("max_retrievals", "number", Default("64"), "Most retrievals at once."),
    fixed("max_retrievals_per_domain", "number", Default("8"), "Most retrievals at once from one signing domain."),
    fixed(
        "pause_retrieval",
        "true or false",
        Default("false"),
        "Take offers and retrieve nothing: for maintenance and measuring. Custody stays with the origins.",
    ),
];

const TRANSFER_PEER: &[Field] = &[
    field("domain", "domain name", Required("\"b.example\""), "The recipient domain; not the ones below it."),
    field("policy", "word", Required("\"require\""), "As in [transfer]."),
];

const QUEUE: &[Field] = &[
    field(
        "retry_first",
        "duration",
        Default("\"5m\""),
        "Wait after the first failed attempt; each later one is twice the one before.",
    ),
    field("retry_longest", "duration", Default("\"4h\""), "Longest wait between attempts."),
    field(
        "retry_jitter",
        "number",
        Default("0.2"),
        "Each wait is longer or shorter by up to this share, by chance; 0 to 0.9.",
    ),
    field("expire_after", "duration", Default("\"5d\""), "Age at which a message is given up and its author told."),
    field(
        "report_delay_after",
        "duration",
        Default("\"4h\""),
        "Age at which the author is told of the delay, once; \"0s\": never.",
    ),
    fixed("max_per_destination", "number", Default("20"), "Most connections to one destination at once."),
    field("keep_finished", "duration", Default("\"7d\""), "How long `restante trace` can show a finished message."),
];

const LIMITS: &[Field] = &[
    fixed(
        "message_size",
        "size",
        Default("\"50 MB\""),
        "Largest message; at least 64 KiB. Messages are never held in memory.",
    ),
    fixed("recipients", "number", Default("1000"), "Most accepted recipients of one transaction; 100 to 10000."),
    fixed(
        "commands",
        "number",
        Default("5000"),
        "Commands without a message after which a connection is closed; at least 100.",
    ),
    fixed("errors", "number", Default("20"), "Errors without a message after which a connection is closed."),
    fixed("auth_failures", "number", Default("3"), "Failed logins after which a connection is closed."),
    fixed("session_time", "duration", Default("\"2h\""), "Longest that a connection may last."),
    fixed("command_timeout", "duration", Default("\"5m\""), "Longest wait for the next command or chunk."),
    fixed("hops", "number", Default("100"), "Received and TBR-Hop fields beyond which a message is in a loop."),
];

const STORE: &[Field] = &[
    fixed(
        "kind",
        "word",
        Default("\"embedded\""),
        "`embedded`: files and SQLite in `data_dir`. `memory`: nothing survives the process; for tests and measuring.",
    ),
    fixed(
        "inline_limit",
        "size",
        Default("\"64 KiB\""),
        "Messages up to this size are kept in the ledger, larger ones as files.",
    ),
];

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
    section_of(
        "log",
        false,
        "The log, on standard error. At `info` each message that is accepted has a line (`accepted by value`, `offer judged`, …), and each \
         outcome of it another (`outcome`): queue id, domains of sender and recipient, how many recipients, relay, by reference or by value, \
         status (`delivered`, `relayed`, `failed`, `withdrawn`, and for now `deferred`, `delayed`), code, seconds since it was accepted, \
         and what the relay said. Into a mailbox here `by` says how it came. Local parts and grants are not logged; `restante trace` has \
         the addresses.",
        LOG,
    ),
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
              read again when they change; the first certificate of all, and having none any more, takes a restart.",
        CERTIFICATE,
    ),
    section_of(
        "acme",
        false,
        "Certificates by ACME (RFC 8555), beside those above or instead: one for this server's name, and one for the hosts of each \
              domain (`tbr.<domain>`, `mta-sts.<domain>`). The authority asks whether each name leads here: with a listener of kind `acme` \
              at port 80 (http-01), there or behind another web server that passes `/.well-known/acme-challenge/` on; without one at port \
              443 (tls-alpn-01, RFC 8737), which the repository's listener answers if TLS comes to it as it is. They are kept in \
              `data_dir`, renewed when the authority suggests it (RFC 9773) or a third of their time is left, with the same key, and shown \
              by `restante certificates`.",
        ACME,
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
    section_of(
        "domain.site",
        false,
        "With `deliver = \"site\"`: this server is the custodian of the domain above, a site that is connected some of the time. \
              Its mail waits here until the site asks for it. The key in [domain.tbr] is then this server's own, which the \
              site publishes under that selector next to its own keys; `tbr.<domain>` must lead here.",
        DOMAIN_SITE,
    ),
    section_of(
        "domain.user",
        true,
        "One user of the domain above whose mail waits here until his own device asks for it; that of the others is delivered as `deliver` \
              says. He is a recipient, whatever `recipients` says. Needs [domain.tbr]. See docs/offline.md.",
        DOMAIN_USER,
    ),
    section_of(
        "domain.mta_sts",
        false,
        "Publishes an MTA-STS policy (RFC 8461) for the domain above: senders then insist on TLS with a good certificate. It is \
              served by the repository listeners at `mta-sts.<domain>`, which must be in a certificate; `restante dns print` \
              prints its records.",
        DOMAIN_MTA_STS,
    ),
    section_of(
        "domain.dkim",
        false,
        "Signs what users of the domain above send (RFC 6376). `restante keys generate --dkim` makes a key and prints its DNS \
              record.",
        DOMAIN_DKIM,
    ),
    section_of(
        "custodian",
        true,
        "For a site that is connected some of the time: where mail for its domains waits. It is asked by schedule, and whenever \
              `restante fetch` or `restante link up` says so; what waits is verified, fetched, claimed and reported like any \
              offer, or comes by value. See docs/offline.md.",
        CUSTODIAN,
    ),
    section_of("relay", true, "A next hop, named by `smart_host` or by `deliver = \"relay:<name>\"`.", RELAY),
    section_of(
        "lmtp",
        true,
        "An LMTP server (RFC 2033), such as Dovecot's, named by `deliver = \"lmtp:<name>\"`.",
        LMTP,
    ),
    section_of(
        "milter",
        true,
        "A filter that speaks the milter protocol (rspamd, OpenDKIM and others). It is asked about mail at relay listeners, at RCPT and \
              at the end of content; about mail by reference again once it is retrieved, before it is claimed. Its header fields go on \
              top, where a changed field stands too; what was sent is not touched. What it wants thrown away is acknowledged by value, \
              and refused by reference. Several are asked in turn.",
        MILTER,
    ),
    section_of("resolver", false, "Name resolution. Without `servers` and `zone_file`: `/etc/resolv.conf`.", RESOLVER),
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
    section_of(
        "submission",
        false,
        "What an account may send, so that a stolen password is worth little. Beyond it MAIL gets 451 and RCPT 452, with the time to \
              wait; `restante accounts list` shows the use. An account may have limits of its own (`restante accounts limit`). What \
              `restante send` hands in is not counted. 0: no limit.",
        SUBMISSION,
    ),
    section_of(
        "budgets",
        false,
        "What senders of references may take of this server. The limits are those of strangers: domains that are known here for mail \
              that was kept have ten times as much, trusted ones a hundred times, unwelcome ones a tenth \
              (`restante reputation show`). Beyond them an offer gets 451 4.7.74 before any key is looked up; the sender comes back, or \
              sends by value. Clients of `relay_from` have no budget of their network.",
        BUDGETS,
    ),
    section_of(
        "budgets.domain",
        false,
        "Of one signing domain. Only offers with a good signature count, so nobody can use up the budget of another.",
        BUDGETS_DOMAIN,
    ),
    section_of(
        "budgets.registrable",
        false,
        "Of all signing domains below one registrable domain (Public Suffix List) together.",
        BUDGETS_REGISTRABLE,
    ),
    section_of(
        "budgets.network",
        false,
        "Of all clients of one IPv4 /24 or IPv6 /48 together. Here count all offers that are well-formed and of this session.",
        BUDGETS_NETWORK,
    ),
    section_of(
        "policy",
        false,
        "What is believed of inbound mail, and what is done about it. Mail of authenticated users, of `relay_from` and \
              of custodians by value is not judged.",
        POLICY,
    ),
    section_of(
        "reports",
        false,
        "Reports to other domains about mail between them and this server, once a day to each that asks for it in DNS; \
              `restante reports` shows those of others.",
        REPORTS,
    ),
    section_of(
        "store",
        false,
        "Where messages and the ledger are kept: the database of who gets what, and what became of it.",
        STORE,
    ),
    section_of(
        "store.hold",
        true,
        "Legal hold: every message of an account or domain is kept for a time from its acceptance on, whatever becomes of it. `restante \
              store hold list` shows what is held; nobody can end a hold before its date, and taking the rule out ends none.",
        STORE_HOLD,
    ),
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
        "Everything that the server keeps: the store, the accounts, the admin socket. It is made with mode 0700; another user's \
         programs that read the mailboxes in it need a `maildir` elsewhere, or the directory opened to their group. RESTANTE_DATA_DIR overrides it.",
    ),
    field(
        "postmaster",
        "address",
        Optional("\"alice@a.example\""),
        "Who gets the mail for postmaster, which every mail server must accept (RFC 5321 §4.5.1), of domains that name \
         nobody for it.",
    ),
    field(
        "relay_from",
        "list of networks",
        Default("[]"),
        "Clients that may send to any domain on relay listeners without authentication, such as `[\"127.0.0.0/8\", \
         \"::1/128\"]`. Networks so wide that the server would be an open relay are refused.",
    ),
    fixed(
        "landlock",
        "word",
        Default("\"try\""),
        "Have the kernel keep this process to the files that the configuration names (Landlock, Linux 5.13): `try`, `required` \
         (no start without), or `off`. Directories of named files may be read, but for shared ones such as /etc; `data_dir`, \
         the admin socket's directory and Maildirs may be written. A reload that names a file elsewhere waits for a restart.",
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
        "`acme`: answers for certificates, port 80 (where there is none, `repository` does). `relay`: SMTP between servers, port 25. `submissions`: mail programs, TLS from the first octet, port 465. \
         `submission`: mail programs, STARTTLS, port 587. `repository`: HTTPS, from where peers fetch messages sent by \
         reference, port 443. `odmr`: On-Demand Mail Relay (RFC 2645), port 366: accounts of domains with `deliver = \"odmr\"` log \
         in, and get what waits on the same connection.",
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
        "Relay only: take them outside TLS too. Grants, the secrets by which messages are fetched, then travel in clear: for loopback and private links.",
    ),
    fixed(
        "auth_without_tls",
        "true or false",
        Default("false"),
        "Submission and odmr only: offer AUTH outside TLS too. Passwords then travel in clear: for loopback.",
    ),
    fixed(
        "max_connections",
        "number",
        Default("1000"),
        "Most connections at once; more get 421, at a repository they wait.",
    ),
    fixed(
        "max_connections_per_ip",
        "number",
        Default("50"),
        "Most connections at once from one IPv4 address or IPv6 /64; more get 421, at a repository they are closed.",
    ),
];

const CERTIFICATE: &[Field] = &[
    field(
        "cert",
        "path",
        Required("\"/etc/restante/tls/fullchain.pem\""),
        "PEM: the certificate, then its intermediates.",
    ),
    field("key", "path", Required("\"/etc/restante/tls/privkey.pem\""), "PEM: its private key."),
];

const ACME: &[Field] = &[
    field("directory", "URL", Default("\"https://acme-v02.api.letsencrypt.org/directory\""), "The authority."),
    field(
        "accept_terms",
        "true or false",
        Required("true"),
        "You agree to the terms of the authority; it issues nothing otherwise.",
    ),
    field("contact", "address", Optional("\"postmaster@a.example\""), "Whom the authority may write to."),
    field("names", "list of host names", Default("[]"), "More names for the certificate of this server."),
    field(
        "ca_file",
        "path",
        Optional("\"/etc/restante/acme-ca.pem\""),
        "PEM: believe the authority's own server by these CAs.",
    ),
];

const TLS: &[Field] = &[
    fixed(
        "min_version",
        "version",
        Default("\"1.2\""),
        "`1.2` or `1.3`: the oldest version that is spoken, with anybody.",
    ),
    fixed(
        "repository_min_version",
        "version",
        Default("\"1.3\""),
        "The same for repositories: this server's own, and those of others from which messages and keys are fetched. `1.2` is for closed \
         networks with equipment that speaks no better; `min_version` counts too.",
    ),
];

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
        "`maildir`, `lmtp:<name>`, `relay:<name>` (to a next hop), `site` (it waits until the site asks \
         for it, see [domain.site]), `odmr` (the same by value: until an account of the domain, \
         `restante accounts add NAME --address @DOMAIN`, asks for it at an `odmr` listener), or `discard` (counted and thrown away, for measuring).",
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
    field(
        "etrn",
        "word or list of networks",
        Default("\"anyone\""),
        "With `relay:<name>`: who may have what waits for the domain tried at once, by ETRN (RFC 1985) at a relay listener. `anyone`, \
         `nobody`, or clients in networks such as `[\"192.0.2.0/24\"]`. The mail goes to the [[relay]], whoever asks, and no more \
         often than `etrn_pause` in [limits] says.",
    ),
    field(
        "pass_offers_to",
        "relay name",
        Optional("\"provider\""),
        "Without [domain.tbr] here: offers for the domain go on unchanged to this [[relay]], another mail exchanger of it, which has \
         its key. It retrieves and delivers; nothing of it is kept here. If not given, or while that one cannot be reached, such mail is asked for by value.",
    ),
    field("catch_all", "address", Optional("\"alice@a.example\""), "Who gets mail for names that nobody has."),
    field(
        "others",
        "word",
        Or("\"relay:custodian\""),
        "Instead of `catch_all`, `relay:<name>`: where mail for names goes that nobody has here, a [[relay]] that has the rest of the domain. For a device of one user of a \
         domain that others use too: `recipients` names him, and what he writes to the others leaves as to anybody else.",
    ),
    field(
        "report_address",
        "name",
        Optional("\"reports\""),
        "Reports of others about this domain's mail go to this name in it: the server reads them, and `restante reports` shows \
         them. An alias, a listed recipient or an account of that name comes first. If not given, `restante dns print` asks for \
         reports to postmaster.",
    ),
    field(
        "quota",
        "size",
        Optional("\"10 GB\""),
        "What its users send, and what comes for it by reference, may take so much of the store; more is put off with 452 4.3.1.",
    ),
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
        "next_selector",
        "name",
        Optional("\"k2\""),
        "Name of the key after this one. `restante keys rotate` makes it and prints these three fields. Both keys are published; \
         `restante check config` says when the old one is no longer needed.",
    ),
    field("next_key", "path", Optional("\"/etc/restante/keys/a.example.k2.pem\""), "The key after this one."),
    field(
        "next_from",
        "date and time",
        Optional("\"2027-01-15 08:00\""),
        "When the key after this one takes over, by itself; in UTC.",
    ),
    field(
        "revoked",
        "list of names",
        Default("[]"),
        "Keys that were stolen, by name: their records and the domain document say `revoked`, and nothing that they ever signed \
         counts any more.",
    ),
    field(
        "repository",
        "host name",
        Optional("\"tbr.a.example\""),
        "Where peers fetch the messages: a name of this server, in the `_tbr` record and in a certificate; `tbr.<domain>` if \
         not given.",
    ),
    field(
        "other_repositories",
        "list of host names",
        Default("[]"),
        "Repositories of other servers of the domain that share no store with this one, such as a backup MX's: they are published with \
         this one. Each such server has its own `repository`; `tbr.<domain>` should lead to all of them.",
    ),
    field(
        "subdomains",
        "true or false",
        Default("false"),
        "The key also signs for senders in subdomains (`sub=y` in the record).",
    ),
    field(
        "offers",
        "true or false",
        Default("true"),
        "If false, the key only signs requests to other servers, and `repository` is another server: for a site whose custodian \
         serves what its users send. See [[custodian]].",
    ),
];

const DOMAIN_SITE: &[Field] = &[
    field(
        "keys",
        "table of keys",
        Required("{ home = \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\" }"),
        "The site's own public keys by selector, as in `p=` of their DNS records: `restante keys generate` prints them at the site. \
         Only requests signed by one of them learn and fetch what waits, or hand over what users there send.",
    ),
    field(
        "messages_per_day",
        "number",
        Default("5000"),
        "Most messages that are taken of its uploads within a day, if not 0: what somebody with a stolen key of the site could send. \
         The others wait at the site.",
    ),
    field("recipients_per_day", "number", Default("25000"), "Most recipients of them."),
];

const DOMAIN_USER: &[Field] = &[
    field("name", "name", Required("\"alice\""), "What stands before the @ in his address; sub-addresses are his too."),
    field(
        "keys",
        "table of keys",
        Required("{ laptop = \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\" }"),
        "The public keys of his devices by selector: `restante keys generate --user` prints them there. They are nobody else's, are not published, and \
         speak for him alone: requests signed by one of them learn and fetch what waits for him, or hand over what he sends.",
    ),
    field(
        "messages_per_day",
        "number",
        Default("5000"),
        "Most messages that are taken of his uploads within a day, if not 0: what somebody with a stolen key of his could send. The \
         others wait on his device.",
    ),
    field("recipients_per_day", "number", Default("25000"), "Most recipients of them."),
];

const CUSTODIAN: &[Field] = &[
    field(
        "host",
        "host name",
        Required("\"tbr.a.example\""),
        "By reference: its repository, which is `repository` in its [domain.tbr]. By value: its mail server.",
    ),
    field(
        "by",
        "word",
        Default("\"reference\""),
        "How mail comes from there. `reference`: it is a Restante, and is asked what waits. `etrn`: any mail server that takes ETRN \
         (RFC 1985); it is asked by that to send what waits, and connects to this server's relay listener. `odmr`: a provider of On-Demand \
         Mail Relay (RFC 2645); it is logged in to, and sends on the same connection: this server needs no address of its own.",
    ),
    field("port", "port", Optional("25"), "By value: its port; if not given 25, with `odmr` 366."),
    field("tls", "word", Optional("\"verified\""), "By value: as in [[relay]]."),
    field(
        "username",
        "text",
        Optional("\"site\""),
        "By value, where it asks for AUTH, as with `odmr`: as in [[relay]].",
    ),
    field("password_file", "path", Optional("\"/etc/restante/custodian.password\""), "As in [[relay]]."),
    field(
        "from",
        "list of networks",
        Default("[]"),
        "With `etrn`: where it sends from. It has judged that mail, so it is not judged here once more (its address is not the \
         author's, and SPF and DMARC would fail); results that it wrote are passed on.",
    ),
    field(
        "domains",
        "list of domain names",
        Optional("[\"a.example\"]"),
        "Which domains of this server wait there. If not given: all that have a key in [domain.tbr], by value all that are delivered here.",
    ),
    field(
        "http2",
        "true or false",
        Default("true"),
        "By reference: one connection fetches up to `transfer.max_retrievals_per_domain` messages at a time (HTTP/2; a custodian takes 16 at most), where the custodian can. \
         If not, or where it cannot, each takes a connection of its own (HTTP/1.1).",
    ),
    field("every", "duration", Optional("\"15m\""), "Ask this long after the last time."),
    field("times", "list of times", Optional("[\"06:00\", \"18:30\"]"), "Ask at these times of the day, in UTC."),
    field(
        "relay",
        "name",
        Optional("\"provider\""),
        "The [[relay]] that leads to it: mail that waits for that relay may go in a bundle instead.",
    ),
    field(
        "keys",
        "table of keys",
        Optional("{ cust = \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\" }"),
        "The public keys by which the custodian signs for these domains, as in `p=` of their DNS records: needed to read its \
         bundles (`restante bundle import`), since there may be no network to ask.",
    ),
];

const DOMAIN_MTA_STS: &[Field] = &[
    field(
        "mode",
        "word",
        Required("\"testing\""),
        "`testing`: senders report what would fail, and send all the same. `enforce`: what fails is not sent. `none`: takes an \
         earlier policy back.",
    ),
    field(
        "mx",
        "list of host names",
        Optional("[\"mx.a.example\", \"*.backup.example\"]"),
        "Every mail exchanger of the domain; this server alone if not given.",
    ),
    field(
        "max_age",
        "duration",
        Default("\"7d\""),
        "How long senders keep the policy, at most a year. Longer protects better, and binds for longer.",
    ),
];

const DOMAIN_DKIM: &[Field] = &[fixed(
    "keys",
    "table of paths",
    Required("{ s1 = \"/etc/restante/keys/a.example.s1.pem\" }"),
    "The keys by selector, PKCS#8 PEM, mode 0600: RSA or Ed25519. Each signs every message: give one of either kind, since not \
     all receivers know Ed25519.",
)];

const RELAY: &[Field] = &[
    field("name", "name", Required("\"provider\""), "By which the rest of the configuration names it."),
    field("host", "host", Optional("\"smtp.provider.example\""), "Host name or address; MX records are not asked for."),
    field(
        "custodian",
        "domain name",
        Or("\"tbr.site.example\""),
        "The repository of a [[custodian]], instead of `host`: what users here send is uploaded to it over HTTPS, signed by the \
         key in [domain.tbr] of its domains, and goes on after a break where it has stopped. None of the other fields here then.",
    ),
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

const MILTER: &[Field] = &[
    fixed("address", "address:port", Optional("\"127.0.0.1:11332\""), "Where it listens."),
    fixed("socket", "path", Or("\"/run/milter/filter.sock\""), "UNIX socket, instead of `address`."),
    fixed(
        "timeout",
        "duration",
        Default("\"30s\""),
        "Longest wait for an answer; ten times as long for the verdict on a whole message.",
    ),
    fixed(
        "without_verdict",
        "word",
        Default("\"defer\""),
        "When it cannot be asked, or does not speak the protocol: `defer` the message, or `accept` it without.",
    ),
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
    fixed(
        "dnssec",
        "word",
        Default("\"validate\""),
        "Who validates what name servers answer. `validate`: this server, which needs name servers that pass signatures \
         on. `trust`: the name servers, which must all be at loopback addresses. `off`: nobody, and nothing is ever secure. \
         What is in `zone_file` is never validated.",
    ),
    fixed(
        "trust_anchor_file",
        "path",
        Optional("\"/etc/restante/root.key\""),
        "DNSKEY records that validation begins with, instead of IANA's of the root, which are built in.",
    ),
];

const OUTGOING: &[Field] = &[
    field("smtp_port", "port", Default("25"), "Port of mail exchangers."),
    field("https_port", "port", Default("443"), "Port of repositories and domain documents."),
    field("bind_ipv4", "IPv4 address", Optional("\"192.0.2.25\""), "Source address of IPv4 connections."),
    field("bind_ipv6", "IPv6 address", Optional("\"2001:db8::25\""), "Source address of IPv6 connections."),
    field(
        "allow_private_addresses",
        "true or false",
        Default("false"),
        "Connect to repositories at private, loopback and link-local addresses. A stranger's reference could then aim this \
         server at your own network.",
    ),
    field(
        "dane",
        "true or false",
        Default("true"),
        "Believe the TLSA records of mail exchangers (RFC 7672) and repositories, where DNSSEC vouches for them: only the \
         certificate that they name will do, and mail does not go in clear. They come before MTA-STS.",
    ),
    fixed(
        "mta_sts",
        "true or false",
        Default("true"),
        "Live up to the MTA-STS policies of other domains (RFC 8461). They are kept in `data_dir`.",
    ),
    field("ca_file", "path", Optional("\"/etc/restante/ca.pem\""), "PEM: trust these CAs instead of the system's."),
    fixed("max_connections", "number", Default("500"), "Most SMTP and LMTP connections at once, and most deliveries."),
    fixed(
        "max_connections_per_host",
        "number",
        Default("20"),
        "Most of them to one address of a mail exchanger, next hop or LMTP server, whichever domains they serve.",
    ),
    field("idle_timeout", "duration", Default("\"10s\""), "How long an idle connection waits for the next message."),
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
        "delegation",
        "word",
        Default("\"off\""),
        "Relaying by reference (TBR §7.3), where both sides want it. `use`: what came by reference and is forwarded to another domain \
         that takes references is offered on, and fetched there straight from its origin, which learns where to. `accept`: relays \
         may pass on what is offered to them from here. `both`. `off`: forwarding takes custody, and hides its targets.",
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
        "convert_8bit",
        "true or false",
        Default("false"),
        "For a server that takes no 8-bit content: send it in another encoding, without TBR-Reference and TBR-Hop, since it is another message \
         then, which its header (X-MIME-Autoconverted) and the trace say; our ARC set is made again, of what is sent. If false, or where that cannot be done, the author is told (5.6.3). Signatures by others do not survive it.",
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
    fixed(
        "bogus_patience",
        "duration",
        Default("\"24h\""),
        "Offers whose sender's names fail DNSSEC are put off for so long (451 4.7.80), then refused (550 5.7.80). From 1 minute to 7 days.",
    ),
    fixed("max_retrievals", "number", Default("64"), "Most retrievals at once."),
    fixed(
        "max_retrievals_per_domain",
        "number",
        Default("8"),
        "Most retrievals at once from all signing domains below one registrable domain.",
    ),
    fixed(
        "minimum_rate",
        "size",
        Default("\"2 KiB\""),
        "Octets a second that all retrievals from one registrable domain together must bring, after 20 seconds: slower ones are given up, and gone on with \
         later. Less for the slowest links; from 1 octet to 1 MiB.",
    ),
    fixed(
        "max_retrievals_per_network",
        "number",
        Default("32"),
        "Most retrievals at once from all repositories in one network of the Internet (IPv4 /24, IPv6 /48).",
    ),
    fixed(
        "pause_retrieval",
        "true or false",
        Default("false"),
        "Take offers and retrieve nothing: for maintenance and measuring. Custody stays with the origins.",
    ),
];

const TRANSFER_PEER: &[Field] = &[
    field("domain", "domain name", Required("\"b.example\""), "The recipient domain; not the ones below it."),
    field("policy", "word", Optional("\"require\""), "As in [transfer], whose word holds if not given."),
    field(
        "delegation",
        "word",
        Optional("\"accept\""),
        "As in [transfer], whose word holds if not given. `use` is about mail forwarded to the domain, `accept` about mail \
         that is offered to it.",
    ),
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
        "expire_for_sites_after",
        "duration",
        Default("\"30d\""),
        "The same for mail that waits to be asked for (`deliver = \"site\"`, `\"odmr\"`) or has left a site in a bundle, at most 30 days. Its author is not told of the delay.",
    ),
    field(
        "report_delay_after",
        "duration",
        Default("\"4h\""),
        "Age at which the author is told of the delay, once; \"0s\": never.",
    ),
    fixed("max_per_destination", "number", Default("20"), "Most deliveries to one destination at once."),
    field("keep_finished", "duration", Default("\"7d\""), "How long `restante trace` can show a finished message."),
];

const LIMITS: &[Field] = &[
    field(
        "message_size",
        "size",
        Default("\"50 MB\""),
        "Largest message; at least 64 KiB. Messages are never held in memory.",
    ),
    field(
        "recipients",
        "number",
        Default("1000"),
        "Most accepted recipients of one transaction; 100 to 10000. Announced as RCPTMAX (RFC 9422).",
    ),
    field(
        "transactions",
        "number",
        Optional("100"),
        "Most messages of one SMTP connection, announced as MAILMAX (RFC 9422); as many as the client likes if not given.",
    ),
    field(
        "commands",
        "number",
        Default("5000"),
        "Commands without a message after which a connection is closed; at least 100, and as many more than `recipients`.",
    ),
    field("errors", "number", Default("20"), "Errors without a message after which a connection is closed."),
    field("auth_failures", "number", Default("3"), "Failed logins after which a connection is closed."),
    field(
        "auth_failures_per_hour",
        "number",
        Default("100"),
        "Failed logins within an hour after which nobody can log in from that address (IPv6: from that /64) at that listener; 0: without end.",
    ),
    field("session_time", "duration", Default("\"2h\""), "Longest that a connection may last."),
    field("command_timeout", "duration", Default("\"5m\""), "Longest wait for the next command or chunk."),
    field(
        "hops",
        "number",
        Default("100"),
        "Received fields beyond which a message is in a loop, 554 5.4.6. Of one that came by reference its TBR-Hop fields count \
         as well, and its author gets a report.",
    ),
    field(
        "etrn_pause",
        "duration",
        Default("\"30s\""),
        "Shortest time between two ETRN for one domain that have an effect; further ones get 458.",
    ),
    fixed(
        "repository_reads",
        "number",
        Default("256"),
        "Most objects that peers fetch from the repository at a time; further ones are told when to come again.",
    ),
    fixed(
        "repository_rate",
        "size",
        Default("\"4 KiB\""),
        "Octets a second at which a peer must take what it fetches, over up to eight connections together, after 30 seconds: slower ones are cut \
         off. Less for sites with the slowest links; from 1 octet to 1 MiB.",
    ),
];

const SUBMISSION: &[Field] = &[
    field("messages_per_hour", "number", Default("200"), "Most messages of an account within an hour."),
    field("messages_per_day", "number", Default("1000"), "Most messages of an account within a day."),
    field(
        "recipients_per_hour",
        "number",
        Default("1000"),
        "Most recipients within an hour, all messages together, as the client names them: an alias is one.",
    ),
    field("recipients_per_day", "number", Default("5000"), "Most recipients within a day."),
];

const BUDGETS: &[Field] = &[
    field("enabled", "true or false", Default("true"), "If false, whoever signs well may offer as much as he likes."),
    field(
        "outstanding",
        "number",
        Default("200000"),
        "Most references accepted and not claimed yet in all; beyond them offers get 452 4.3.1.",
    ),
];

const OFFERS_PER_MINUTE: &str = "Most offers within a minute.";
const OUTSTANDING: &str = "Most references accepted and not claimed yet.";
const OCTETS: &str = "Most octets of those; one message always fits.";
const FAILURES: &str = "Most retrievals within an hour that fail or bring something else than was signed.";

const BUDGETS_DOMAIN: &[Field] = &[
    field("offers_per_minute", "number", Default("600"), OFFERS_PER_MINUTE),
    field("outstanding", "number", Default("2000"), OUTSTANDING),
    field("octets", "size", Default("\"10 GB\""), OCTETS),
    field("failures_per_hour", "number", Default("300"), FAILURES),
];

const BUDGETS_REGISTRABLE: &[Field] = &[
    field("offers_per_minute", "number", Default("1200"), OFFERS_PER_MINUTE),
    field("outstanding", "number", Default("4000"), OUTSTANDING),
    field("octets", "size", Default("\"20 GB\""), OCTETS),
    field("failures_per_hour", "number", Default("600"), FAILURES),
];

const BUDGETS_NETWORK: &[Field] = &[
    field("offers_per_minute", "number", Default("1200"), OFFERS_PER_MINUTE),
    field("outstanding", "number", Default("8000"), OUTSTANDING),
    field("octets", "size", Default("\"40 GB\""), OCTETS),
    field(
        "failures_per_hour",
        "number",
        Default("600"),
        "Most offers within an hour whose signature does not verify, or whose domain publishes no keys.",
    ),
];

const POLICY: &[Field] = &[
    fixed(
        "enabled",
        "true or false",
        Default("true"),
        "Look up SPF, DKIM, DMARC, ARC, reverse DNS and the lists below, act on them, and write them into \
         Authentication-Results. If false, that field only says how a message came by reference.",
    ),
    fixed(
        "no_author",
        "word",
        Default("\"refuse\""),
        "Mail without exactly one From, or whose From names no domain that can be read, so that nobody can be asked about it: `refuse` \
         or `mark`.",
    ),
    fixed(
        "dmarc_reject",
        "word",
        Default("\"refuse\""),
        "Mail that fails DMARC, where the domain of From asks for refusal (`p=reject`): `refuse` or `mark` (take it; \
         Authentication-Results tells).",
    ),
    fixed("dmarc_quarantine", "word", Default("\"mark\""), "The same where it asks for quarantine."),
    fixed(
        "spf_fail",
        "word",
        Default("\"mark\""),
        "The sender's domain does not let this client send its mail (`-all`): `mark` or `refuse`. Refusing loses mail that \
         others forward.",
    ),
    fixed(
        "no_reverse_name",
        "word",
        Default("\"mark\""),
        "The client's address has no name that leads back to it: `mark` or `refuse`.",
    ),
    fixed(
        "trusted_sealers",
        "list of domain names",
        Default("[]"),
        "Mailing lists and forwarders that are believed where DMARC fails: their ARC seals, on mail that their own servers bring \
         and that passed DMARC there, and their hops (TBR §9).",
    ),
    fixed(
        "block_lists",
        "list of domain names",
        Default("[]"),
        "DNS lists (RFC 5782) of clients that are refused. Mind their terms of use.",
    ),
    fixed(
        "allow_lists",
        "list of domain names",
        Default("[]"),
        "DNS lists of clients that are spared the lists above and `no_reverse_name`.",
    ),
    fixed(
        "least_reputation",
        "number",
        Optional("-40"),
        "Mail of domains with fewer points is refused (`restante reputation show`); a complaint is 50 points against one. Nobody is \
         refused for that if not given.",
    ),
    field(
        "kept_after",
        "duration",
        Default("\"2d\""),
        "Mail by reference that lies in a Maildir here is a point for its domain when it is still there after so long, at most 30 days; in a \
         folder for junk it is five against it.",
    ),
    field(
        "stranger_delay",
        "duration",
        Default("\"0s\""),
        "How long the retrieval of a reference waits whose domain is not known here, at most 1 hour. What is withdrawn meanwhile is never \
         fetched, and a client that is on a block list by then is refused.",
    ),
    field(
        "hint",
        "true or false",
        Default("false"),
        "Meet strangers by value, in sessions in which TBR is offered, with 451 4.7.73: a reference would be taken at once. Who comes again \
         after 15 minutes is let in. A stranger is whom no allow list names and whose domain, shown by SPF, is not known here.",
    ),
    fixed(
        "patience",
        "duration",
        Default("\"5s\""),
        "Time for the look-ups of one stage: client, sender, content. What is not known by then counts as a temporary error, \
         which refuses nothing.",
    ),
    fixed(
        "header_memory",
        "size",
        Default("\"64 MiB\""),
        "Most memory for the headers of messages that are being judged, all together; beyond it mail is deferred. Bodies are \
         hashed as they pass.",
    ),
];

const REPORTS: &[Field] = &[
    fixed(
        "tls",
        "true or false",
        Default("true"),
        "Report how TLS went with their mail exchangers (RFC 8460). What is reported is kept in `data_dir` for the day.",
    ),
    fixed(
        "dmarc",
        "true or false",
        Default("true"),
        "Report what came in their name, and whether it was theirs (DMARC aggregate reports, RFC 7489): who sent it, and what SPF and \
         DKIM said, without a word of what was in it. Only while `policy.enabled`.",
    ),
    fixed(
        "from",
        "address",
        Optional("\"postmaster@a.example\""),
        "Who reports, and whom readers may ask: in a domain that signs by DKIM, or many will not believe it. `postmaster` in the \
         domain that this server is named in if not given.",
    ),
    fixed(
        "organization",
        "text",
        Optional("\"A Ltd.\""),
        "In whose name, for people; the domain of `from` if not given.",
    ),
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
    fixed(
        "compression",
        "word",
        Default("\"zstd\""),
        "`zstd`: what users send by reference is kept and served compressed where that makes it at least a tenth smaller (attachments \
         lose a quarter), and what others serve so is taken so. Peers that do not ask for it get the message as it is. `off`: neither.",
    ),
    field(
        "quota",
        "size",
        Optional("\"100 GB\""),
        "What all messages may take on disk. Beyond it new mail is put off with 452 4.3.1, before its content where SIZE says how much that is, and so \
         are offers; without it only the disk is the limit.",
    ),
    field(
        "reserve",
        "size",
        Optional("\"10 GB\""),
        "The part of `quota` that new mail does not get: messages of references that were accepted find room there. A tenth of it if not given.",
    ),
    field(
        "quota_per_account",
        "size",
        Optional("\"1 GB\""),
        "What the messages that one account has submitted may take; likewise.",
    ),
    field(
        "grace",
        "duration",
        Default("\"1h\""),
        "How long a message that went by reference is kept after its last final receipt, or the end of its last reference, for an operator who \
         wants to bring it back (`restante store export`). No peer can fetch it then; it counts against the quotas until it is gone.",
    ),
];

const STORE_HOLD: &[Field] = &[
    field("account", "account name", Optional("\"alice\""), "What this account submits."),
    field(
        "domain",
        "domain name",
        Or("\"a.example\""),
        "What comes from this domain or goes to it, instead of `account`.",
    ),
    field("period", "duration", Required("\"3650d\""), "For how long; at least a day."),
];

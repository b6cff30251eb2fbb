//! Mistakes as their authors see them; the printed forms of the schema.

use net::dns::Anchors;

use super::*;

const FILE: &str = "/etc/restante/restante.toml";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new(FILE))
}

/// What is printed for a text with mistakes.
fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The messages alone.
fn messages(text: &str) -> Vec<String> {
    parse(text).unwrap_err().mistakes.into_iter().map(|mistake| mistake.message).collect()
}

/// `#` without a space hides a setting: this shows all of them.
fn uncommented(sample: &str) -> String {
    let show = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting.to_owned(),
        _ => line.to_owned(),
    };
    sample.lines().map(show).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_smallest_configuration_has_all_defaults() {
    let config = parse("hostname = \"mx.a.example\"").unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/restante"));
    assert_eq!(config.admin_socket, Path::new("/var/lib/restante/admin.sock"));
    assert_eq!(config.limits.message_size, 50_000_000);
    assert_eq!(config.transfer.claim_patience, Duration::from_secs(3600));
    assert_eq!(config.queue.report_delay_after, Some(Duration::from_secs(4 * 3600)));
    assert_eq!(config.resolver.source, Source::System);
    assert_eq!(config.resolver.dnssec, Dnssec::Validate(Anchors::Iana));
    assert!(config.relay_from.is_empty() && config.listeners.is_empty() && config.domains.is_empty());
}

#[test]
fn the_printed_reference_parses_as_it_is_and_with_everything_set() {
    let sample = reference();
    let plain = parse(&sample).unwrap();
    assert_eq!(plain, parse("hostname = \"mx.a.example\"").unwrap(), "it sets nothing but what must be set");
    let full = parse(&uncommented(&sample)).map_err(|errors| errors.to_string()).unwrap();
    assert_eq!((full.listeners.len(), full.domains.len(), full.relays.len(), full.lmtp.len()), (3, 1, 1, 1));
    assert_eq!(full.transfer.policy_for(&"b.example".parse().unwrap()), TransferPolicy::Require);
    assert!(full.domains.values().all(|domain| domain.tbr.is_some()));
    for line in sample.lines() {
        assert!(line.chars().count() <= 120, "{line}");
    }
}

#[test]
fn the_manual_is_made_from_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("RESTANTE_WRITE_DOCS").is_some() {
        fs::write(&path, document()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap();
    assert!(written == document(), "docs/configuration.md is not what the schema says; see its first lines");
}

#[test]
fn an_unknown_field_shows_its_place_and_what_was_meant() {
    let text = "hostname = \"mx.a.example\"\n\n[queue]\nretry_frist = \"5m\"\n";
    assert_eq!(
        complaint(text),
        "error: [queue] has no `retry_frist`\n \
         --> /etc/restante/restante.toml:4:1\n  \
           |\n\
         4 | retry_frist = \"5m\"\n  \
           | ^^^^^^^^^^^\n  \
           = help: did you mean `retry_first`?\n"
    );
}

#[test]
fn several_mistakes_are_reported_at_once_in_order() {
    let text = "hostname = \"mx a\"\nrelay_from = [\"127.0.0.0/8\", \"0.0.0.0/0\"]\n\
                [[listener]]\nkind = \"submissoin\"\naddress = \"25\"\n[limits]\nmessage_size = \"50 XB\"\nrecipients = 5\n";
    assert_eq!(
        messages(text),
        [
            "`mx a` is not a domain name: a domain name holds a character that is not allowed there",
            "`0.0.0.0/0` would make this server an open relay: name your own networks only",
            "`submissoin` is not known here",
            "`25` is not an address with a port, like \"0.0.0.0:25\" or \"[::]:25\"",
            "`50 XB` is not a size; write it like \"64 KiB\", \"50 MB\" or \"1 GB\"",
            "`5` is out of range",
        ]
    );
    let places: Vec<_> = parse(text).unwrap_err().mistakes.iter().map(|m| m.place.clone().unwrap()).collect();
    assert_eq!((places[1].line, places[1].column, places[1].length), (2, 30, 11));
}

#[test]
fn the_marks_stand_below_what_is_wrong() {
    assert_eq!(
        complaint("hostname = \"mx.a.example\"\n[[listener]]\nkind = \"submissoin\"\naddress = \"[::]:465\"\n"),
        "error: `submissoin` is not known here\n \
         --> /etc/restante/restante.toml:3:8\n  \
           |\n\
         3 | kind = \"submissoin\"\n  \
           |        ^^^^^^^^^^^^\n  \
           = help: did you mean \"submission\"? Known: \"relay\", \"submission\", \"submissions\", \"odmr\", \"repository\", \"acme\"\n"
    );
}

#[test]
fn what_is_not_toml_is_shown_too() {
    let shown = complaint("hostname = \"mx.a.example\"\n[queue\nretry_first = 5\n");
    assert!(shown.starts_with("error: this is not TOML: "), "{shown}");
    assert!(shown.contains("restante.toml:2:"), "{shown}");
    for odd in ["\u{feff}x", "a = \"\u{e9}", "=", "[[", "a = 'x\n", "\u{e9} = 1"] {
        assert!(parse(odd).is_err(), "{odd:?}");
    }
}

#[test]
fn a_missing_field_says_what_to_write() {
    let shown = complaint("");
    assert!(shown.contains("the top of the file lacks `hostname`"), "{shown}");
    assert!(shown.contains("help: add a line such as: hostname = \"mx.a.example\""), "{shown}");
    let lacks = messages("hostname = \"a\"\n[[relay]]\nport = 26");
    assert_eq!(lacks, ["[[relay]] lacks `name`", "[[relay]] lacks `host`"]);
}

#[test]
fn an_authority_is_reached_by_https_and_answered_by_a_listener() {
    let acme =
        |more: &str| messages(&format!("hostname = \"a\"\ndata_dir = \"/x\"\n[acme]\naccept_terms = true\n{more}"));
    assert_eq!(acme(""), ["nothing here could answer the authority's questions about names"]);
    for kind in ["acme", "repository"] {
        let listener = format!("[[listener]]\nkind = \"{kind}\"\naddress = \"[::]:1\"\n");
        for url in ["http://x.example/dir", "https://", "https://x example/dir", "x"] {
            let found = acme(&format!("directory = \"{url}\"\n{listener}"));
            assert_eq!(found, ["an authority is reached by https only"], "{url}");
        }
        let good = format!("hostname = \"a\"\ndata_dir = \"/x\"\n[acme]\naccept_terms = true\n{listener}");
        parse(&good).unwrap();
    }
}

#[test]
fn fields_and_tables_in_the_wrong_place() {
    let one = |text: &str| {
        let errors = parse(&format!("hostname = \"a\"\n{text}")).unwrap_err();
        assert_eq!(errors.mistakes.len(), 1, "{errors}");
        let mistake = errors.mistakes.into_iter().next().unwrap();
        (mistake.message, mistake.help.unwrap_or_default())
    };
    assert_eq!(one("claim_patience = \"1h\"").1, "`claim_patience` belongs into [transfer]");
    assert_eq!(one("[listener]\nkind = \"relay\"").1, "write: [[listener]]");
    assert_eq!(one("queue = 5").1, "write: [queue]");
    assert_eq!(one("[limitz]").1, "did you mean `limits`?");
    assert_eq!(one("[log]\njson = \"yes\"").0, "this is a string, not true or false");
    assert!(one("[log]\nlevel = \"a=b=c\"").0.starts_with("this is no log filter: "));
}

#[test]
fn what_needs_something_else_says_so() {
    let with = |text: &str| messages(&format!("hostname = \"a\"\n{text}"));
    let domain = |rest: &str| with(&format!("[[domain]]\nname = \"a.example\"\n{rest}"));
    assert_eq!(with("smart_host = \"p\""), ["there is no [[relay]] named `p`"]);
    assert_eq!(domain("deliver = \"lmtp:d\"\npostmaster = 1")[0], "there is no [[lmtp]] named `d`");
    assert_eq!(domain("recipients = \"probe\""), ["there is nobody to ask"]);
    assert_eq!(domain("[domain.tbr]\nselector = \"k\"\nkey = \"k.pem\"").len(), 1);
    assert_eq!(
        domain("deliver = \"discard\"\n[[domain]]\nname = \"A.example\"\ndeliver = \"discard\""),
        ["`a.example` is configured twice"]
    );
    assert_eq!(
        domain(
            "deliver = \"relay:r\"\nrecipients = { list = [\"bob\"] }\n[[relay]]\nname = \"r\"\nhost = \"r.example\""
        ),
        ["mail for postmaster@a.example has nowhere to go"]
    );
    assert_eq!(
        with("[[listener]]\nkind = \"submissions\"\naddress = \"[::]:465\""),
        ["a submissions listener needs a certificate"]
    );
    assert_eq!(
        with(
            "[[listener]]\nkind = \"repository\"\naddress = \"[::]:443\"\ntbr = true\n[[certificate]]\ncert='c'\nkey='k'"
        ),
        ["`tbr` means nothing on a repository listener"]
    );
    assert_eq!(
        with(
            "[[relay]]\nname = \"r\"\nhost = \"r.example\"\ntls = \"opportunistic\"\nusername = \"u\"\npassword_file = \"p\""
        ),
        ["the password could be read or given to a stranger on the way"]
    );
    assert_eq!(with("[[lmtp]]\nname = \"d\"\nhost = \"::1\"").len(), 1);
    assert_eq!(with("[[milter]]\ntimeout = \"5s\"").len(), 1);
    assert_eq!(with("[[milter]]\naddress = \"127.0.0.1:1\"\nsocket = \"s\"").len(), 1);
    assert_eq!(with("[resolver]\nservers = [\"::1\"]\nzone_file = \"z\"").len(), 1);
    assert_eq!(with("[resolver]\ndnssec = \"off\"\ntrust_anchor_file = \"k\""), ["nothing is validated here"]);
    assert_eq!(with("[transfer]\nlifetime = \"31d\""), ["`31d` is out of range"]);
    assert!(parse("hostname = \"a\"\n[[listener]]\nkind = \"relay\"\naddress = \"[::1]:0\"").is_ok());
}

#[test]
fn domains_are_completed() {
    let text = "hostname = \"a\"\npostmaster = \"alice@a.example\"\ndata_dir = \"data\"\n\
                [[domain]]\nname = \"A.Example\"\nrecipients = { list = [\"Bob\", \"carol@a.example\"] }\n\
                subaddress_separator = \"\"\naliases = { Info = [\"bob\", \"x@b.example\"], \"a.b\" = \"bob\" }\n\
                maildir = \"mail/{user}\"\n[[domain]]\nname = \"b.example\"\n";
    let config = parse(text).unwrap();
    let a = config.domain(&"a.example".parse().unwrap()).unwrap();
    assert_eq!(a.recipients, Recipients::List(["bob".to_owned(), "carol".to_owned()].into()));
    assert_eq!(a.aliases["info"], ["bob@a.example".parse().unwrap(), "x@b.example".parse().unwrap()]);
    assert_eq!(a.aliases["a.b"].len(), 1);
    assert_eq!(a.subaddress_separator, None);
    let Deliver::Maildir(pattern) = &a.deliver else { panic!("{a:?}") };
    assert_eq!(pattern.as_str(), "/etc/restante/mail/{user}");
    let b = config.domain(&"b.example".parse().unwrap()).unwrap();
    let Deliver::Maildir(pattern) = &b.deliver else { panic!("{b:?}") };
    assert_eq!(pattern.as_str(), "/etc/restante/data/mail/{domain}/{user}");
    assert_eq!(b.subaddress_separator, Some('+'));
}

#[test]
fn the_environment_overrides_and_is_named_in_mistakes() {
    let with = |variable: &str, value: &str| {
        let environment = BTreeMap::from([(variable.to_owned(), value.to_owned())]);
        Config::parse_with("hostname = \"a\"", Path::new(FILE), &environment)
    };
    assert_eq!(with("RESTANTE_HOSTNAME", "mx.b.example").unwrap().hostname.as_str(), "mx.b.example");
    assert_eq!(with("RESTANTE_ADMIN_SOCKET", "/run/x").unwrap().admin_socket, Path::new("/run/x"));
    let message = with("RESTANTE_HOSTNAME", "").unwrap_err().to_string();
    assert!(message.contains("(from the environment variable RESTANTE_HOSTNAME)"), "{message}");
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let error = Config::load(Path::new("/nonexistent/restante.toml")).unwrap_err().to_string();
    assert!(error.contains("there is no such file") && error.contains("restante config"), "{error}");
}

#[test]
fn what_takes_a_restart_is_named() {
    let one = parse("hostname = \"a\"").unwrap();
    let two =
        parse("hostname = \"b\"\n[queue]\nretry_first = \"1m\"\n[limits]\nerrors = 7\n[store]\nkind = \"memory\"")
            .unwrap();
    assert!(one.restart_needed(&one).is_empty());
    assert_eq!(one.restart_needed(&two), ["hostname", "[store]"]);
}

#[test]
fn the_next_key_is_described_wholly_and_takes_over_at_its_time() {
    let with = |rest: &str| {
        let head = "hostname = \"a\"\n[[listener]]\nkind = \"repository\"\naddress = \"[::1]:443\"\n\
                    [[certificate]]\ncert='c'\nkey='k'\n[[domain]]\nname = \"a.example\"\n";
        parse(&format!("{head}[domain.tbr]\nselector = \"k1\"\nkey = \"k1.pem\"\n{rest}"))
    };
    let whole = "next_selector = \"k2\"\nnext_key = \"k2.pem\"\nnext_from = ";
    let config = with(&format!("{whole}\"2027-01-15 08:00\"")).map_err(|errors| errors.to_string()).unwrap();
    let tbr = config.domain(&"a.example".parse().unwrap()).unwrap().tbr.clone().unwrap();
    let at = |seconds: u64| tbr.signing_at(Timestamp::from_secs(seconds)).0.to_string();
    assert_eq!((at(1_799_999_999), at(1_800_000_000)), ("k1".to_owned(), "k2".to_owned()));
    assert_eq!(tbr.keys().map(|(selector, ..)| selector.to_string()).collect::<Vec<_>>(), ["k1", "k2"]);
    for wrong in ["\"2027-02-29 08:00\"", "\"2027-01-15\"", "\"2027-01-15 24:00\"", "\"1969-01-15 08:00\"", "5"] {
        assert!(with(&format!("{whole}{wrong}")).is_err(), "{wrong}");
    }
    assert!(with("next_selector = \"k2\"").is_err());
    assert!(with(&format!("{whole}\"2028-02-29 08:00:30\"").replace("\"k2\"", "\"k1\"")).is_err(), "the same name");
}

#[test]
fn custodians_by_value_are_mail_servers_for_the_domains_of_this_one() {
    let base = "hostname = \"mx.a.example\"\n[[domain]]\nname = \"a.example\"\n";
    let config =
        parse(&format!("{base}[[custodian]]\nhost = \"mx.b.example\"\nby = \"etrn\"\nfrom = [\"192.0.2.25\"]\n"))
            .unwrap();
    let custodian = &config.custodians[0];
    assert_eq!(custodian.domains, ["a.example".parse().unwrap()]);
    let server = custodian.way.server().unwrap();
    assert_eq!((server.port, server.tls, &server.login), (25, RelayTls::Verified, &None));
    assert!(config.is_custodian("192.0.2.25".parse().unwrap()) && !config.is_custodian("192.0.2.26".parse().unwrap()));
    let wrong = "[[custodian]]\nhost = \"mx.b.example\"\nby = \"etrn\"\ndomains = [\"c.example\"]\nfrom = [\"0.0.0.0/0\"]\n\
                 username = \"x\"\n[[custodian]]\nhost = \"tbr.b.example\"\n";
    assert_eq!(
        messages(&format!("{base}{wrong}")),
        [
            "mail for c.example would be refused here",
            "`0.0.0.0/0` would let everybody's mail in unjudged",
            "there is no password for it",
            "no domain of this server has a key to ask with",
        ]
    );
    // What is right beside a mistake is read all the same, and no fault of this program.
    let nowhere = "[[custodian]]\nby = \"etrn\"\nport = 26\nfrom = [\"192.0.2.25\"]\n";
    assert_eq!(messages(&format!("{base}{nowhere}")), ["[[custodian]] lacks `host`"]);
    assert_eq!(
        messages(&format!("{base}[[custodian]]\nhost = \"mx.b.example\"\nby = \"x\"\nport = 26\n")),
        ["`x` is not known here"]
    );
}

#[test]
fn only_what_is_relayed_says_who_may_ask_for_it() {
    let text = |etrn: &str| format!("hostname = \"mx.a.example\"\n[[domain]]\nname = \"a.example\"\netrn = {etrn}\n");
    parse(&text("\"anyone\"")).unwrap();
    assert_eq!(messages(&text("\"nobody\"")), ["nothing waits here for a next hop of this domain"]);
    let forms = "write \"anyone\", \"nobody\" or a list of networks such as [\"192.0.2.0/24\"]";
    assert_eq!(messages(&text("true")), [forms]);
}

#[test]
fn mail_is_uploaded_to_a_custodian_of_ours_and_a_relay_is_one_kind_or_the_other() {
    let site = "hostname = \"a\"\nsmart_host = \"cust\"\n[[domain]]\nname = \"site.example\"\n\
        [domain.tbr]\nselector = \"home\"\nkey = \"k.pem\"\noffers = false\n\
        [[custodian]]\nhost = \"tbr.site.example\"\nrelay = \"cust\"\n";
    let with = |relay: &str| format!("{site}[[relay]]\nname = \"cust\"\n{relay}");
    let config = parse(&with("custodian = \"tbr.site.example\"")).unwrap();
    let host = Domain::parse("tbr.site.example").unwrap();
    assert!(config.relays.is_empty() && config.uploads.get("cust") == Some(&host));
    assert_eq!(config.sites_at(&host).map(Domain::as_str).collect::<Vec<_>>(), ["site.example"]);
    let messages = |relay: &str| messages(&with(relay));
    assert!(messages("port = 25").contains(&"[[relay]] lacks `host`".to_owned()));
    assert_eq!(
        messages("custodian = \"tbr.site.example\"\nport = 25\nusername = \"u\"\npassword_file = \"p\""),
        ["port", "username", "password_file"]
            .map(|field| format!("`{field}` is for a relay by SMTP: to this one mail is uploaded over HTTPS"))
    );
    assert_eq!(
        messages("custodian = \"tbr.other.example\""),
        ["[[relay]] `cust`: tbr.other.example is no custodian of a domain here"]
    );
    let passes = with("custodian = \"tbr.site.example\"\n[[domain]]\nname = \"b.example\"\npass_offers_to = \"cust\"");
    assert_eq!(super::tests::messages(&passes), ["`cust` takes no offers: mail is uploaded to it"]);
    let probed = with(
        "custodian = \"tbr.site.example\"\n[[domain]]\nname = \"b.example\"\ndeliver = \"relay:cust\"\nrecipients = \"probe\"",
    );
    assert_eq!(super::tests::messages(&probed), ["`cust` cannot be asked: mail is uploaded to it"]);
}

#[test]
fn what_is_to_be_fetched_from_here_is_coded_on_its_way_to_a_next_hop_too() {
    let text = "hostname = \"a\"\n[[listener]]\nkind = \"repository\"\naddress = \"[::1]:443\"\n\
        [[certificate]]\ncert='c'\nkey='k'\n[[domain]]\nname = \"a.example\"\n\
        [domain.tbr]\nselector = \"k1\"\nkey = \"k1.pem\"\n\
        [[relay]]\nname = \"by-reference\"\nhost = \"r.example\"\ntbr = true\n\
        [[relay]]\nname = \"by-value\"\nhost = \"v.example\"\n";
    let config = parse(text).map_err(|errors| errors.to_string()).unwrap();
    let is_coded = |from: &str, name: &str| {
        let (from, routes): (Address, _) = (from.parse().unwrap(), [Route::Relay(name.to_owned())]);
        config.is_to_be_served(Some(&from), routes.iter())
    };
    assert!(is_coded("alice@a.example", "by-reference"));
    assert!(!is_coded("alice@a.example", "by-value"));
    assert!(!is_coded("alice@b.example", "by-reference"), "nobody signs it here");
}

#[test]
fn users_have_keys_of_their_own_and_others_are_somewhere() {
    const KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let with = |domain: &str, users: &str| {
        format!(
            "hostname = \"mx.a.example\"\n[[listener]]\nkind = \"repository\"\naddress = \"127.0.0.1:0\"\n\
             [[certificate]]\ncert = \"c\"\nkey = \"k\"\n[[relay]]\nname = \"r\"\nhost = \"mx.b.example\"\n\
             [[domain]]\nname = \"a.example\"\n{domain}\n{users}"
        )
    };
    let tbr = "[domain.tbr]\nselector = \"k1\"\nkey = \"k.pem\"\nrevoked = [\"k0\"]\n";
    let user = |name: &str, selector: &str| {
        format!("[[domain.user]]\nname = \"{name}\"\nkeys = {{ {selector} = \"{KEY}\" }}\n")
    };
    let config = parse(&with(tbr, &(user("alice", "laptop") + &user("Bob", "desk")))).unwrap();
    let domain = &config.domains[&Domain::parse("a.example").unwrap()];
    let of = |selector: &str| domain.user_of_key(&selector.parse().unwrap()).map(|(user, _)| user.holder.to_string());
    assert_eq!((of("laptop"), of("desk")), (Some("alice@a.example".into()), Some("bob@a.example".into())));
    assert_eq!((of("k1"), of("other")), (None, None));
    assert!(config.site(&"alice@a.example".parse().unwrap()).is_some());
    assert!(config.site(&"a.example".parse().unwrap()).is_none(), "its domain is no site");

    let wrong = |domain: &str, users: &str| messages(&with(domain, users));
    let taken = |name: &str| vec![format!("`{name}` is the name of another's key")];
    assert_eq!(wrong(tbr, &user("alice", "k1")), taken("k1"));
    assert_eq!(wrong(tbr, &user("alice", "k0")), taken("k0"));
    assert_eq!(wrong(tbr, &(user("alice", "laptop") + &user("bob", "laptop"))), taken("laptop"));
    assert_eq!(wrong(tbr, &(user("alice", "x") + &user("ALICE", "y"))), ["`alice@a.example` is configured twice"]);
    assert_eq!(wrong(tbr, &user("a b", "x")), ["`a b` is no user's name"]);
    assert_eq!(
        wrong(tbr, "[[domain.user]]\nname = \"alice\"\nkeys = {}\n"),
        ["nobody could ask for what waits for this user"]
    );
    assert_eq!(wrong("", &user("alice", "x")), ["a custodian signs in the name of its user's domain"]);
    let odmr = format!("deliver = \"odmr\"\nrecipients = \"any\"\n{tbr}");
    assert_eq!(wrong(&odmr, &user("alice", "x")), ["all mail of this domain waits for its site already"]);

    parse(&with("others = \"relay:r\"\nrecipients = { list = [\"alice\"] }", "")).unwrap();
    assert_eq!(wrong("others = \"r\"", ""), ["`r` is no way for others; write \"relay:<name>\""]);
    assert_eq!(wrong("others = \"relay:x\"", ""), ["there is no [[relay]] named `x`"]);
    assert_eq!(wrong("others = \"relay:r\"\nrecipients = \"any\"", ""), ["everybody of the domain is here already"]);
    assert_eq!(
        wrong("others = \"relay:r\"\ncatch_all = \"x@a.example\"", ""),
        ["`catch_all` gets all other mail already"]
    );
    assert_eq!(wrong("others = \"relay:r\"\ndeliver = \"relay:r\"", ""), ["all mail of the domain goes there already"]);
}

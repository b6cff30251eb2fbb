use ::mail::{Address, Body, Domain, DsnReturn, MailParams, Notify, Recipient};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::secret::Secret;

fn address() -> impl Strategy<Value = Address> {
    let local = prop_oneof!["[a-z]{1,8}(\\.[A-Z0-9+=-]{1,8}){0,2}", "\"[a-z @>,]{0,8}\"", "[a-zü]{1,5}"];
    let host = prop_oneof![
        "[a-z][a-z0-9]{0,8}(\\.[a-z]{2,5}){1,2}",
        Just("[192.0.2.1]".to_owned()),
        Just("[ipv6:2001:db8::1]".to_owned())
    ];
    (local, host).prop_filter_map("address", |(local, host)| Address::parse(&format!("{local}@{host}")).ok())
}

fn xtext() -> impl Strategy<Value = String> {
    "([!-*,-<>-~]|\\+[0-9A-F]{2}){1,30}"
}

prop_compose! {
    fn mail()(
        from in option::of(address()), size in option::of(any::<u64>()), eight_bit in any::<bool>(), flags in any::<(bool, bool)>(),
        ret in option::of(prop_oneof![Just(DsnReturn::Full), Just(DsnReturn::Hdrs)]), envid in option::of(xtext()),
    ) -> Mail {
        let body = if eight_bit { Body::EightBit } else { Body::SevenBit };
        let params = MailParams { size, body, smtputf8: flags.0, requiretls: flags.1, ret, envid };
        Mail { from, params }
    }
}

prop_compose! {
    fn rcpt()(address in address(), flags in option::of(any::<(bool, bool, bool)>()), orcpt in option::of(xtext())) -> Rcpt {
        let notify = match flags {
            None => Notify::Unspecified,
            Some((false, false, false)) => Notify::Never,
            Some((success, failure, delay)) => Notify::On { success, failure, delay },
        };
        Rcpt(Recipient { address, notify, orcpt: orcpt.map(|text| format!("rfc822;{text}")) })
    }
}

fn domain() -> impl Strategy<Value = Domain> {
    "[a-z][a-z0-9]{0,8}(\\.[a-z]{2,5}){1,2}".prop_map(|name| Domain::parse(&name).unwrap())
}

fn etrn() -> impl Strategy<Value = Etrn> {
    prop_oneof![
        domain().prop_map(Etrn::Domain),
        domain().prop_map(Etrn::Subdomains),
        "[!-~]{1,20}".prop_map(Etrn::Queue)
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let name = || "[!-~ü]{1,60}".prop_filter_map("name", |name| HelloName::new(&name));
    let auth = ("[A-Z0-9_-]{1,20}", option::of(proptest::collection::vec(any::<u8>(), 0..40)));
    prop_oneof![
        name().prop_map(Command::Helo),
        name().prop_map(Command::Ehlo),
        name().prop_map(Command::Lhlo),
        auth.prop_map(|(mechanism, initial)| Command::Auth(Auth { mechanism, initial: initial.map(Secret::new) })),
        mail().prop_map(Command::Mail),
        rcpt().prop_map(Command::Rcpt),
        any::<(u64, bool)>().prop_map(|(size, last)| Command::Bdat(Bdat { size, last })),
        "[0-9]{1,3} https://[!-~]{1,60}".prop_map(|arguments| Command::Tbr(Tbr::parse(&arguments).unwrap())),
        etrn().prop_map(Command::Etrn),
        proptest::collection::btree_set(domain(), 0..5)
            .prop_map(|domains| Command::Atrn(domains.into_iter().collect())),
        "[!-~]{1,20}".prop_map(Command::Vrfy),
        "[!-~]{1,20}".prop_map(Command::Expn),
        prop_oneof![
            Just(Command::StartTls),
            Just(Command::Data),
            Just(Command::Rset),
            Just(Command::Noop),
            Just(Command::Quit),
            Just(Command::Help)
        ],
    ]
}

fn line_of(command: &Command) -> Vec<u8> {
    let mut line = Vec::new();
    command.write_to(&mut line);
    line
}

proptest! {
    #[test]
    fn what_is_written_is_read(command in command()) {
        let line = line_of(&command);
        let text = line.strip_suffix(b"\r\n").unwrap();
        prop_assert!(!has_line_end(text));
        prop_assert_eq!(Command::parse(text), Ok(command));
    }

    #[test]
    fn what_is_read_is_read_again(line in "(MAIL FROM:|RCPT TO:|BDAT |AUTH |TBR |EHLO )[ -~]{0,60}") {
        if let Ok(command) = Command::parse(line.as_bytes()) {
            let again = line_of(&command);
            prop_assert_eq!(Command::parse(&again[..again.len() - 2]), Ok(command));
        }
    }

    #[test]
    fn no_octets_break_the_parser(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::parse(&line);
        let _ = Verb::of(&line);
    }
}

#[test]
fn secrets_are_not_printed() {
    let auth = Command::parse(b"AUTH PLAIN c2VjcmV0").unwrap();
    assert!(!format!("{auth:?}").contains("115"), "{auth:?}");
    let tbr = Command::parse(b"TBR 0 https://a.example/.well-known/tbr/m?XUID=x&RCPT=secret").unwrap();
    assert!(!format!("{tbr:?}").contains("secret"), "{tbr:?}");
}

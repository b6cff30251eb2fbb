//! The options of sendmail, for cron and all others that call it by that name.
//!
//! What asks for a behaviour that we have anyway is ignored; what asks for another program is refused.

use super::args::SendArgs;

/// What a command line asks for.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// A message.
    Send(SendArgs),
    /// `-bp`: the queue.
    Queue,
}

/// Options with a value, in the next argument or behind the letter.
const WITH_VALUE: &str = "fFrBNRVXCODLhpoM";

/// Reads the arguments behind the program's name.
///
/// # Errors
/// One sentence.
pub(super) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Asked, String> {
    let mut args = SendArgs {
        recipients: Vec::new(),
        from: None,
        full_name: None,
        read_recipients: false,
        ignore_dots: false,
        require_tls: false,
    };
    let mut arguments = arguments.into_iter();
    let mut only_recipients = false;
    while let Some(argument) = arguments.next() {
        let Some(options) = argument.strip_prefix('-').filter(|o| !o.is_empty() && !only_recipients) else {
            args.recipients.push(argument);
            continue;
        };
        match options {
            "-" => only_recipients = true,
            "bp" => return Ok(Asked::Queue),
            // The mode: taking a message is ours; batch and daemon modes are other programs.
            "bm" => {}
            _ if options.starts_with('b') => return Err(format!("-{options} is not supported")),
            // -q runs the queue: it runs by itself.
            _ if options.starts_with('q') => {}
            _ => letters(options, &mut arguments, &mut args)?,
        }
    }
    Ok(Asked::Send(args))
}

/// `-ti`, `-oi`, `-falice@a.example`, `-f alice@a.example`.
fn letters(options: &str, rest: &mut impl Iterator<Item = String>, args: &mut SendArgs) -> Result<(), String> {
    for (at, letter) in options.char_indices() {
        if WITH_VALUE.contains(letter) {
            let attached = &options[at + letter.len_utf8()..];
            let value = if attached.is_empty() { rest.next() } else { Some(attached.to_owned()) };
            let value = value.ok_or_else(|| format!("-{letter} lacks its value"))?;
            match letter {
                'f' | 'r' => args.from = Some(value),
                'F' => args.full_name = Some(value),
                'o' if value == "i" => args.ignore_dots = true,
                _ => {}
            }
            return Ok(());
        }
        match letter {
            't' => args.read_recipients = true,
            'i' => args.ignore_dots = true,
            // Verbose, metoo, no aliases, errors by mail, 7 bit: nothing to do.
            'v' | 'm' | 'n' | 'e' | 'U' | 'G' | 'x' => {}
            _ => return Err(format!("-{letter} is not supported")),
        }
        if letter == 'e' {
            // -em, -ep, …: the letter behind says how errors are told.
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(line: &str) -> SendArgs {
        match parse(line.split_whitespace().map(str::to_owned)) {
            Ok(Asked::Send(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_forms_that_programs_use() {
        let cron = send("-FCronDaemon -i -odi -oem -oi -t -f root");
        assert!(cron.ignore_dots && cron.read_recipients);
        assert_eq!((cron.from.as_deref(), cron.full_name.as_deref()), (Some("root"), Some("CronDaemon")));
        let php = send("-t -i -falice@a.example");
        assert_eq!(php.from.as_deref(), Some("alice@a.example"));
        let mutt = send("-oem -oi -f <> -- -odd@b.example bob@b.example");
        assert_eq!(mutt.recipients, ["-odd@b.example", "bob@b.example"]);
        assert_eq!(mutt.from.as_deref(), Some("<>"));
        assert!(send("-bm -ti x@a.example").read_recipients);
        assert!(!send("bob").ignore_dots);
    }

    #[test]
    fn other_programs_are_refused() {
        let parse = |line: &str| parse(line.split_whitespace().map(str::to_owned));
        assert!(matches!(parse("-bp"), Ok(Asked::Queue)));
        for bad in ["-bs", "-bd", "-bi", "-z", "-f"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

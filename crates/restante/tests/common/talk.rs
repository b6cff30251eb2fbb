//! What whoever talks to servers by hand needs.

use std::io::{BufRead as _, BufReader, Write as _};

use testbed::Host;
use testbed::peers::Restante;

/// Says these to a server, one after the other; the last reply.
pub(crate) fn say(from: &Host, server: &Restante, commands: &[&str]) -> String {
    let mut stream = from.connect((server.host().ipv4(), 25)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut reply = || loop {
        let line = lines.next().unwrap().unwrap();
        if line.as_bytes().get(3) == Some(&b' ') {
            return line;
        }
    };
    let mut said = reply();
    for command in commands {
        stream.write_all(command.as_bytes()).unwrap();
        said = reply();
    }
    said
}

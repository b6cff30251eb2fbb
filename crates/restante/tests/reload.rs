//! SIGHUP to the real process: what it takes over at once, what it leaves for the next start, and that a mistake changes
//! nothing.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// A server whose log can be waited for.
struct Server {
    directory: tempfile::TempDir,
    child: Child,
    address: String,
}

impl Server {
    fn start(head: &str, limits: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        configure(&directory, head, limits);
        fs::write(directory.path().join("zone"), "\n").unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("serve").env("RESTANTE_CONFIG", directory.path().join("restante.toml")).env_remove("RUST_LOG");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split(' ').nth(2).unwrap().to_owned();
        Self { directory, child, address }
    }

    fn configure(&self, head: &str, limits: &str) {
        configure(&self.directory, head, limits);
    }

    /// Sends SIGHUP, and waits until the log has these words once more than before.
    fn hang_up_until(&self, words: &str) -> String {
        let log = || fs::read_to_string(self.directory.path().join("log")).unwrap();
        let before = log().matches(words).count();
        assert!(Command::new("kill").arg("-HUP").arg(self.child.id().to_string()).status().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(60);
        while log().matches(words).count() == before {
            assert!(Instant::now() < deadline, "{}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        log()
    }

    /// What a new client hears to EHLO, and to mail for another domain.
    fn talk(&self) -> (String, String) {
        let mut stream = BufReader::new(TcpStream::connect(&self.address).unwrap());
        let mut hear = |command: &str| {
            stream.get_mut().write_all(command.as_bytes()).unwrap();
            let mut all = String::new();
            loop {
                let mut line = String::new();
                assert!(stream.read_line(&mut line).unwrap() > 0);
                all.push_str(&line);
                if line.as_bytes().get(3) == Some(&b' ') {
                    return all;
                }
            }
        };
        let greeting = hear("");
        let hello = greeting + &hear("EHLO x.example\r\n");
        hear("MAIL FROM:<x@x.example>\r\n");
        (hello, hear("RCPT TO:<y@y.example>\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already where it stopped by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configure(directory: &tempfile::TempDir, head: &str, limits: &str) {
    let text = format!(
        "{head}\ndata_dir = \"data\"\n[resolver]\nzone_file = \"zone\"\n[limits]\n{limits}\n\
         [[listener]]\nkind = \"relay\"\naddress = \"127.0.0.1:0\"\n"
    );
    fs::write(directory.path().join("restante.toml"), text).unwrap();
}

#[test]
fn limits_and_relaying_change_at_once_and_the_name_at_the_next_start() {
    let server = Server::start("hostname = \"mx.a.example\"", "message_size = \"1 MiB\"");
    let (hello, relaying) = server.talk();
    assert!(hello.contains("SIZE 1048576\r\n") && relaying.starts_with("550 5.7.1"), "{hello}{relaying}");

    let relays = "relay_from = [\"127.0.0.0/8\"]";
    server.configure(&format!("hostname = \"mx.b.example\"\n{relays}"), "message_size = \"2 MiB\"");
    let log = server.hang_up_until("only the next start takes that over");
    assert!(log.contains("fields=\"hostname\""), "nothing else waits for a start: {log}");
    let (hello, relaying) = server.talk();
    assert!(hello.contains("SIZE 2097152\r\n") && relaying.starts_with("250 "), "{hello}{relaying}");
    assert!(hello.starts_with("220 mx.a.example "), "{hello}");

    server.configure("hostname = \"mx.a.example\"", "message_size = \"none\"");
    let log = server.hang_up_until("not reloaded, everything stays as it was");
    assert!(log.contains("restante.toml:"), "the mistake has a place: {log}");
    let (hello, relaying) = server.talk();
    assert!(hello.contains("SIZE 2097152\r\n") && relaying.starts_with("250 "), "{hello}{relaying}");
}

#[test]
fn nobody_else_may_enter_what_it_keeps() {
    let server = Server::start("hostname = \"mx.a.example\"", "");
    let mode = |name: &str| fs::metadata(server.directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data"), mode("data/admin.sock"), mode("data/store")), (0o700, 0o600, 0o700));
}

/// Landlock, by the kernel: the file is there and its mode lets everybody read it.
#[test]
fn a_file_elsewhere_is_out_of_reach_until_a_restart_names_it() {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("aliases");
    fs::write(&file, "info: bob\n").unwrap();
    let head = |landlock: &str| format!("hostname = \"mx.a.example\"\nlandlock = \"{landlock}\"");
    let domain = |file: &std::path::Path| {
        let path = file.display();
        format!(
            "[[domain]]\nname = \"a.example\"\ndeliver = \"discard\"\nrecipients = \"any\"\nalias_file = \"{path}\"\n"
        )
    };
    let server = Server::start(&head("try"), "");
    let log = fs::read_to_string(server.directory.path().join("log")).unwrap();
    if log.contains("this kernel has no Landlock") {
        return;
    }
    assert!(log.contains("(Landlock)") || log.contains("Landlock goes"), "{log}");
    server.configure(&head("try"), &format!("errors = 7\n{}", domain(&file)));
    let log = server.hang_up_until("not reloaded, everything stays as it was");
    assert!(log.contains("takes a restart (`landlock`)") && log.contains("ermission denied"), "{log}");
    // Beside the configuration a new file is fine, and one that takes the place of another is too.
    let near = server.directory.path().join("aliases");
    for text in ["info: bob\n", "info: alice\n"] {
        fs::write(near.with_extension("new"), text).unwrap();
        fs::rename(near.with_extension("new"), &near).unwrap();
        server.configure(&head("try"), &format!("errors = 7\n{}", domain(&near)));
        server.hang_up_until("the configuration was read again");
    }
    drop(server);

    let server = Server::start(&head("off"), "");
    server.configure(&head("off"), &format!("errors = 7\n{}", domain(&file)));
    server.hang_up_until("the configuration was read again");
}

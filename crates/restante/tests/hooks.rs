//! The hooks of contrib/link, run as ifupdown, NetworkManager, networkd-dispatcher, pppd and systemd run theirs: what waits at the custodian
//! is fetched when the link has come up, and nobody asks for it when something else has happened.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testbed::peers::PartTime;
use testbed::samples::awkward;
use testbed::wait;

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

const SCRIPT: &str = include_str!("../../../contrib/link/restante-link-up.sh");
const UNIT: &str = include_str!("../../../contrib/link/restante-link-up.service");

/// Where the hook says that it is installed.
const IFUPDOWN: &str = "/etc/network/if-up.d/restante";
const NETWORK_MANAGER: &str = "/etc/NetworkManager/dispatcher.d/50-restante";
const NETWORKD: &str = "/etc/networkd-dispatcher/routable.d/50-restante";
const PPPD: &str = "/etc/ppp/ip-up.d/restante";

const BOB: &str = "bob@site.example";

struct World {
    world: PartTime,
    /// What the hooks called, a line each.
    calls: PathBuf,
    /// While it exists, the program that they call hangs.
    hang: PathBuf,
    sent: usize,
}

impl World {
    /// A site where everything is in the places that the hooks expect.
    fn new() -> Self {
        let world = PartTime::start(PROGRAM, |_, config| config).unwrap();
        let host = world.site.host();
        let (calls, hang) = (host.room().join("calls"), host.room().join("hang"));
        fs::write(&calls, "").unwrap();
        let configuration = host.room().join("restante.toml");
        host.put("/etc/restante/restante.toml", &fs::read(configuration).unwrap()).unwrap();
        let (told, hangs) = (calls.display(), hang.display());
        let program = format!(
            "#!/bin/sh\necho \"$(id -un): $*\" >> {told}\nn=0\nwhile [ -e {hangs} ]; do\n\
             sleep 0.1; n=$((n + 1)); [ $n -lt 600 ] || {{ echo waited >> {told}; exit 1; }}\ndone\nexec {PROGRAM} \"$@\"\n"
        );
        // The server of a sandbox runs as root: this is another name of it.
        host.run(&["sh", "-c", "sed -i '1i restante:x:0:0::/:/usr/sbin/nologin' /etc/passwd"]).unwrap();
        for (path, text) in [("/usr/bin/restante", &*program)]
            .into_iter()
            .chain([IFUPDOWN, NETWORK_MANAGER, NETWORKD, PPPD].map(|path| (path, SCRIPT)))
        {
            host.put(path, text.as_bytes()).unwrap();
            host.run(&["chmod", "0755", path]).unwrap();
        }
        Self { world, calls, hang, sent: 0 }
    }

    /// A command as a manager of networks runs it: with nothing in its environment but this and a path.
    fn command(&self, line: &str, environment: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = self.world.site.host().command(words.next().unwrap());
        command.args(words).env_remove("LC_ALL");
        command.envs(environment.split_whitespace().map(|pair| pair.split_once('=').unwrap()));
        command
    }

    /// Mail waits, the link has come up, and the hook ends although the server does not answer yet; then what waited comes.
    fn assert_fetches(&mut self, line: &str, environment: &str) {
        self.sent += 1;
        let id = self.world.send(BOB, &awkward(&format!("number {}", self.sent))).unwrap();
        self.world.until_kept(&id).unwrap();
        let host = self.world.site.host();
        host.unplug().unwrap();
        host.dial_in(100 + u8::try_from(self.sent).unwrap()).unwrap();
        fs::write(&self.hang, "").unwrap();
        // Its output is read to its end, as managers do that log it.
        let output = self.command(line, environment).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{line}: {output:?}");
        assert!(!fs::read_to_string(&self.calls).unwrap().contains("waited"), "{line} waits for the server");
        fs::remove_file(&self.hang).unwrap();
        self.world.site.maildir(BOB).wait_for(self.sent, wait::LONG).unwrap();
        self.world.origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
        self.assert_called();
    }

    /// Nothing comes of it.
    fn assert_does_nothing(&self, line: &str, environment: &str) {
        let output = self.command(line, environment).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        self.assert_called();
    }

    /// As often as the link came up, as the server's user.
    fn assert_called(&self) {
        assert_eq!(fs::read_to_string(&self.calls).unwrap(), "restante: link up\n".repeat(self.sent));
    }
}

#[test]
fn every_manager_of_networks_has_what_waits_fetched_when_the_link_comes_up() {
    for path in [IFUPDOWN, NETWORK_MANAGER, NETWORKD, PPPD] {
        assert!(SCRIPT.lines().any(|line| line.starts_with(&format!("#   {path} "))), "{path} is not where it says");
    }
    let mut world = World::new();
    // ifupdown: interfaces(5), "environment variables". It runs the loopback's hooks first.
    let up = "MODE=start PHASE=post-up VERBOSITY=0 ADDRFAM=inet";
    let folder = "run-parts /etc/network/if-up.d";
    world.assert_does_nothing(folder, &format!("{up} IFACE=lo LOGICAL=lo METHOD=loopback"));
    world.assert_fetches(folder, &format!("{up} IFACE=eth0 LOGICAL=eth0 METHOD=dhcp"));

    // NetworkManager-dispatcher(8): interface and action as arguments, and more in the environment.
    let tell = |interface: &str, action: &str, more: &str| {
        let device = format!("DEVICE_IFACE={interface} DEVICE_IP_IFACE={interface}");
        let connection = "CONNECTION_ID=modem CONNECTION_UUID=6f0f8b1c-0d2b-4a35-8d53-4c1f7b1f0e7a";
        let environment = format!("NM_DISPATCHER_ACTION={action} {device} {connection} {more}");
        (format!("{NETWORK_MANAGER} {interface} {action}"), environment)
    };
    for (interface, action, more) in [
        ("lo", "up", ""),
        ("eth0", "pre-up", ""),
        ("eth0", "pre-down", ""),
        ("eth0", "down", ""),
        ("none", "hostname", ""),
        ("none", "connectivity-change", "CONNECTIVITY_STATE=NONE"),
    ] {
        let (line, environment) = tell(interface, action, more);
        world.assert_does_nothing(&line, &environment);
    }
    for (interface, action, more) in [
        ("eth0", "up", "CONNECTIVITY_STATE=UNKNOWN IP4_NUM_ADDRESSES=1"),
        ("eth0", "dhcp4-change", "DHCP4_IP_ADDRESS=192.0.2.101"),
        ("none", "connectivity-change", "CONNECTIVITY_STATE=FULL"),
    ] {
        let (line, environment) = tell(interface, action, more);
        world.assert_fetches(&line, &environment);
    }

    // networkd-dispatcher(8): the state is the folder's name.
    let states = "STATE=routable AdministrativeState=configured OperationalState=routable";
    world.assert_fetches(NETWORKD, &format!("IFACE=eth0 ADDR=192.0.2.104 IP_ADDRS=192.0.2.104 ESSID= {states}"));

    // pppd(8), by Debian's /etc/ppp/ip-up.
    let arguments = ["ppp0", "/dev/ttyS0", "115200", "192.0.2.105", "192.0.2.1", "provider"];
    let line = format!("run-parts /etc/ppp/ip-up.d {}", arguments.map(|word| format!("--arg={word}")).join(" "));
    world.assert_fetches(&line, "PPP_IFACE=ppp0 PPP_TTY=/dev/ttyS0 PPP_SPEED=115200 PPP_IPPARAM=provider");

    // systemd waits for its oneshot: no hook that hangs.
    let field = |name: &str| UNIT.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let (user, start) = (field("User="), field("ExecStart="));
    world.sent += 1;
    let id = world.world.send(BOB, &awkward("by systemd")).unwrap();
    world.world.until_kept(&id).unwrap();
    let ended = world.command(&format!("runuser -u {user} -- {start}"), "").status().unwrap();
    assert!(ended.success());
    world.world.site.maildir(BOB).wait_for(world.sent, wait::LONG).unwrap();
    world.assert_called();
}

//! A network of its own for a test: namespaces, where it may make them; else addresses of the loopback interface.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use super::page::Program;

/// Set for a test that runs within the namespaces that it has made.
const WITHIN: &str = "TALLYMESH_WITHIN_NAMESPACES";
const NEW: [&str; 8] = [
    "--map-root-user",
    "--net",
    "--mount",
    "--uts",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];
/// The network of the pods: a bridge. Without an address of its own it has the lowest of its ports, and pods that come and go change it.
const BRIDGE: &str = "ip link set lo up; ip link add br0 address 02:00:00:00:00:01 type bridge; ip addr add 10.77.0.1/16 dev br0; ip link set br0 up; exec \"$@\"";
/// A pod: an interface on that bridge, a host name, and directories of its own over those of the machine.
const POD: &str = r#"
    name=$1 ip=$2 number=$3 outside=$4; shift 4
    ip link add eth0 type veth peer name "pod$number" netns "$outside"
    nsenter --target "$outside" --net ip link set "pod$number" master br0 up
    ip addr add "$ip/16" dev eth0; ip link set eth0 up; ip link set lo up
    hostname "$name"; mount --bind "$1" /etc; mount --bind "$2" /var/lib; shift 2; exec "$@""#;
/// A process of the one machine.
const UNIT: &str = r#"
    hostname "$1"; mount --bind "$2" /etc; mount --bind "$3" /var/lib; mount --bind "$4" /usr/local/bin; shift 4; exec "$@""#;

/// Runs the test of this name in a network that is its own.
pub fn in_a_network(test: &str, run: impl FnOnce(Network)) {
    if std::env::var_os(WITHIN).is_some() {
        return run(Network::new(true));
    }
    let probe =
        Command::new("unshare").args(NEW).args(["sh", "-ec", BRIDGE, "sh", "true"]).output();
    let why = match &probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    };
    let loopback =
        std::env::var_os("TALLYMESH_NO_NAMESPACES").map(|_| "TALLYMESH_NO_NAMESPACES".to_owned());
    if let Some(why) = loopback.or(why) {
        eprintln!("SKIPPED: no network namespaces ({why}): {test} runs on 127.0.0.2 and up");
        return run(Network::new(false));
    }
    let program = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(NEW)
        .args([
            "sh",
            "-ec",
            BRIDGE,
            "sh",
            program.to_str().unwrap(),
            "--exact",
            test,
            "--nocapture",
        ])
        .env(WITHIN, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} within namespaces: {status}");
}

/// Where programs run, and what they find there.
pub struct Network {
    has_namespaces: bool,
    /// The address of the one machine, where there are no namespaces. Those of pods follow it.
    local: Ipv4Addr,
    dir: TempDir,
    started: u8,
}

/// A program that runs.
pub struct Process {
    pub name: String,
    pub ip: Ipv4Addr,
    pub http_port: u16,
    pub child: Child,
    output: PathBuf,
}

impl Network {
    fn new(has_namespaces: bool) -> Network {
        let dir = tempfile::tempdir().unwrap();
        for part in ["etc/tallymesh", "bin", "out"] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        fs::write(dir.path().join("etc/nsswitch.conf"), "hosts: files\n").unwrap();
        symlink(env!("CARGO_BIN_EXE_tallymesh"), dir.path().join("bin/tallymesh")).unwrap();
        // Tests of one process may run at once.
        static NETWORKS: AtomicU8 = AtomicU8::new(0);
        let local = Ipv4Addr::new(127, 0, NETWORKS.fetch_add(1, Ordering::Relaxed), 2);
        Network { has_namespaces, local, dir, started: 2 }
    }

    fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }

    /// Puts the file that the programs read in its place.
    pub fn settings(&self, text: &str) {
        fs::write(self.path("etc/tallymesh/tallymesh.toml"), self.here(text, "", self.local))
            .unwrap();
    }

    /// Has the program make a key, of the kind that these words ask for; returns what it put into the file.
    pub fn keygen(&self, name: &str, kind: &[&str]) -> String {
        let path = self.path(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallymesh"));
        command.arg("keygen").args(kind).arg("--out").arg(&path);
        assert!(command.status().unwrap().success());
        fs::read_to_string(path).unwrap()
    }

    /// Puts keys, one a line, into a file that the programs read in `/etc/tallymesh`, which only its owner can.
    pub fn secret(&self, name: &str, keys: &str) {
        let path = self.path("etc/tallymesh").join(name);
        fs::write(&path, keys).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Makes the name of the headless service lead to these.
    pub fn publish<'a>(&self, all: impl Iterator<Item = &'a Process>) {
        let line = |process: &Process| match self.has_namespaces {
            true => format!("{} tallymesh-peers\n", process.ip),
            false => format!("{}:7946\n", process.ip),
        };
        let lines: String = all.map(line).collect();
        let file = self.path(if self.has_namespaces { "etc/hosts" } else { "peers" });
        // At once, as a name server answers.
        fs::write(self.path("new"), lines).unwrap();
        fs::rename(self.path("new"), file).unwrap();
    }

    /// Starts a pod of this name, to which the headless service then leads beside those. What it wrote under the name before is there.
    pub fn published_pod(&mut self, name: &str, program: &Program, others: &[Process]) -> Process {
        let pod = self.pod(name, program);
        self.publish(others.iter().chain([&pod]));
        pod
    }

    fn pod(&mut self, name: &str, program: &Program) -> Process {
        self.started += 1;
        let ip = match self.has_namespaces {
            true => Ipv4Addr::new(10, 77, 1, self.started),
            false => {
                let [a, b, net, _] = self.local.octets();
                Ipv4Addr::new(a, b, net, self.started)
            }
        };
        let (etc, lib) = (self.path("etc"), self.volume(name));
        let outside = std::process::id().to_string();
        let number = self.started.to_string();
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--uts", "sh", "-ec", POD, "sh", name, &ip.to_string()]);
        command.args([&number, &outside]).args([&etc, &lib]).args(&program.command);
        self.start(name, ip, command, program, &lib)
    }

    /// Starts a process of the one machine that all are on.
    pub fn unit(&mut self, name: &str, program: &Program) -> Process {
        let lib = self.volume("machine");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "sh", "-ec", UNIT, "sh", "machine"]);
        command.args([&self.path("etc"), &lib, &self.path("bin")]).args(&program.command);
        let ip = if self.has_namespaces { Ipv4Addr::LOCALHOST } else { self.local };
        self.start(name, ip, command, program, &lib)
    }

    /// What the machine's own tool says of a unit of systemd, if it has one and there are namespaces: nothing, if it is right.
    pub fn complaints_of_unit(&self, name: &str, text: &str) -> Option<String> {
        let there = Command::new("systemd-analyze").arg("--version").output();
        if !self.has_namespaces || there.is_err() {
            eprintln!("SKIPPED: no systemd-analyze, or no namespaces: {name} is not verified");
            return None;
        }
        let unit = self.path(name);
        fs::write(&unit, text).unwrap();
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-ec",
            "mount --bind \"$1\" /usr/local/bin; shift; exec \"$@\"",
            "sh",
        ]);
        command.arg(self.path("bin")).args(["systemd-analyze", "verify"]).arg(unit);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Some(if output.status.success() { said } else { format!("{}: {said}", output.status) })
    }

    /// A command of a recipe that does not stay.
    pub fn command(&self, words: &[String]) -> Command {
        let words: Vec<String> = words.iter().map(|word| self.here(word, "", self.local)).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    fn volume(&self, name: &str) -> PathBuf {
        let path = self.path("volumes").join(name);
        fs::create_dir_all(path.join("tallymesh")).unwrap();
        path
    }

    fn start(
        &self,
        name: &str,
        ip: Ipv4Addr,
        isolated: Command,
        program: &Program,
        lib: &Path,
    ) -> Process {
        let lib = lib.display().to_string();
        let mut command = isolated;
        if !self.has_namespaces {
            command = Command::new(env!("CARGO_BIN_EXE_tallymesh"));
            command.args(program.command[1..].iter().map(|word| self.here(word, &lib, ip)));
            command.env("TALLYMESH_NODE_ID", name.split('@').next().unwrap());
            command.env("TALLYMESH_NODE_DATA_DIR", format!("{lib}/tallymesh"));
        }
        let env = program.env.iter().map(|(name, value)| (name, self.here(value, &lib, ip)));
        command.envs(env);
        if program.env.iter().any(|(name, _)| name == "TALLYMESH_STORAGE_IN_MEMORY") {
            command.env_remove("TALLYMESH_NODE_DATA_DIR");
        }
        if !self.has_namespaces {
            command.env("TALLYMESH_GOSSIP_LISTEN", format!("{ip}:7946"));
        }
        let output = self.path("out").join(name);
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let to = |path: PathBuf| {
            Stdio::from(File::options().create(true).append(true).open(path).unwrap())
        };
        let child = command
            .env("PATH", path)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .stderr(to(output.with_extension("log")))
            .spawn()
            .unwrap();
        Process { name: name.to_owned(), ip, http_port: program.http_port, child, output }
    }

    /// A text of a recipe with the paths and addresses that it has here.
    fn here(&self, text: &str, lib: &str, ip: Ipv4Addr) -> String {
        if self.has_namespaces {
            return text.to_owned();
        }
        let etc = self.path("etc/tallymesh").display().to_string();
        let peers = format!("file:{}", self.path("peers").display());
        let text = text.replace("/etc/tallymesh", &etc).replace("tallymesh-peers:7946", &peers);
        let text = text.replace("/var/lib/tallymesh", &format!("{lib}/tallymesh"));
        text.replace("0.0.0.0:", &format!("{ip}:"))
            .replace("127.0.0.1:", &format!("{}:", self.local))
    }
}

impl Process {
    /// The last line of its output.
    pub fn last_line(&self) -> String {
        let text = fs::read_to_string(&self.output).unwrap();
        text.lines().last().unwrap_or_default().to_owned()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.output.with_extension("log")).unwrap_or_default()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = (self.child.kill(), self.child.wait());
        if std::thread::panicking() {
            eprintln!("== {}\n{}", self.name, self.log());
        }
    }
}

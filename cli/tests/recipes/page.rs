//! What the pages of recipes say: their blocks, and the programs that those would start.

use std::path::Path;
use std::time::Duration;

use serde_yaml_ng::Value;

/// A program as a recipe has it started, probed and ended.
#[derive(Debug, Clone)]
pub struct Program {
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Where its HTTP listens.
    pub http_port: u16,
    /// What runs before the signal that ends it is sent.
    pub pre_stop: Duration,
    /// How long it may take to end, from the beginning of `pre_stop` on.
    pub grace: Duration,
    /// How many of it there are.
    pub replicas: usize,
}

/// The block of this name on a page of `docs/operating/`: the fence says its language and its name.
pub fn block(page: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let is_it = |fence: &str| fence.split_whitespace().nth(1) == Some(name);
    let mut lines = text.lines().skip_while(|line| !line.starts_with("```") || !is_it(line));
    assert!(lines.next().is_some(), "{} has no block {name}", path.display());
    let lines = lines.take_while(|line| !line.starts_with("```"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// A block of YAML documents.
pub struct Manifests(Vec<Value>);

impl Manifests {
    pub fn of(name: &str) -> Manifests {
        use serde::Deserialize;
        let text = block("kubernetes.md", name);
        let documents = serde_yaml_ng::Deserializer::from_str(&text);
        let documents = documents.map(|document| Value::deserialize(document).expect(name));
        Manifests(documents.collect())
    }

    /// The object of this kind, and of this name where several have it.
    pub fn object(&self, kind: &str, name: &str) -> &Value {
        let is_it =
            |value: &&Value| text(value, "kind") == kind && text(value, "metadata.name") == name;
        self.0.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// The container that runs the program, of the pods of this object, with what is said of the pods.
    pub fn program(&self, kind: &str, name: &str) -> Program {
        let object = self.object(kind, name);
        let pod = at(object, "spec.template.spec").unwrap();
        let lists =
            ["initContainers", "containers"].map(|list| at(pod, list).and_then(Value::as_sequence));
        let container = lists.into_iter().flatten().flatten();
        let container =
            container.into_iter().find(|container| text(container, "name") == "limits").unwrap();
        let words = at(container, "command").unwrap().as_sequence().unwrap();
        let env = at(container, "env").unwrap().as_sequence().unwrap();
        let pre_stop =
            at(container, "lifecycle.preStop.sleep.seconds").map_or(0, |s| s.as_u64().unwrap());
        let program = Program {
            command: words.iter().map(|word| word.as_str().unwrap().to_owned()).collect(),
            env: env.iter().map(|one| (text(one, "name"), value(one))).collect(),
            http_port: number(container, "readinessProbe.httpGet.port"),
            pre_stop: Duration::from_secs(pre_stop),
            grace: Duration::from_secs(number(pod, "terminationGracePeriodSeconds").into()),
            replicas: number(object, "spec.replicas").into(),
        };
        self.agrees(object, pod, container, &program);
        program
    }

    /// Ports, labels and paths that stand at several places of the manifests are the same at all of them.
    fn agrees(&self, object: &Value, pod: &Value, container: &Value, program: &Program) {
        let settings = settings_toml();
        let probe = at(container, "readinessProbe.httpGet").unwrap();
        assert_eq!(text(probe, "path"), "/ready");
        let http = program.command.iter().skip_while(|word| *word != "--http").nth(1).unwrap();
        assert_eq!(*http, format!("0.0.0.0:{}", program.http_port));
        let ports = at(container, "ports").unwrap().as_sequence().unwrap();
        let ports: Vec<u16> = ports.iter().map(|port| number(port, "containerPort")).collect();
        let gossip: u16 = ports[0];
        assert_eq!(ports, [gossip, program.http_port]);
        assert!(settings.contains(&format!("listen = \"0.0.0.0:{gossip}\"")));
        let shared = Manifests::of("settings.yaml");
        let headless = shared.object("Service", "tallymesh-peers");
        let front = shared.object("Service", "limits");
        assert_eq!(text(headless, "spec.clusterIP"), "None");
        assert!(settings.contains(&format!("peers = [\"tallymesh-peers:{gossip}\"]")));
        let port = |service: &Value| number(&at(service, "spec.ports").unwrap()[0], "port");
        assert_eq!((port(headless), port(front)), (gossip, program.http_port));
        let labels = at(object, "spec.template.metadata.labels").unwrap();
        let mut selectors = vec![at(object, "spec.selector.matchLabels").unwrap()];
        selectors.extend([headless, front].map(|service| at(service, "spec.selector").unwrap()));
        let budgets = self.0.iter().filter(|one| text(one, "kind") == "PodDisruptionBudget");
        for budget in budgets {
            selectors.push(at(budget, "spec.selector.matchLabels").unwrap());
            assert_eq!(number(budget, "spec.maxUnavailable"), 1);
        }
        assert!(selectors.iter().all(|selector| *selector == labels), "{selectors:?}");
        assert_eq!(at(pod, "enableServiceLinks"), Some(&Value::Bool(false)));
        let volume = &at(pod, "volumes").unwrap()[0];
        assert_eq!(text(volume, "configMap.name"), "tallymesh-settings");
        let mount = &at(container, "volumeMounts").unwrap()[0];
        assert_eq!(
            (text(mount, "name"), text(volume, "name")),
            ("settings".into(), "settings".into())
        );
        let config = program.command.iter().skip_while(|word| *word != "--config").nth(1).unwrap();
        assert_eq!(*config, format!("{}/tallymesh.toml", text(mount, "mountPath")));
        // The signal comes after the sleep; then gossip.leave_timeout, and half a second for the goodbyes.
        assert!(program.grace > program.pre_stop + Duration::from_millis(1500));
        assert!(!settings.contains("leave_timeout"));
    }
}

/// The settings file of the config map.
pub fn settings_toml() -> String {
    text(
        Manifests::of("settings.yaml").object("ConfigMap", "tallymesh-settings"),
        "data/tallymesh.toml",
    )
}

/// The unit of a slot, and the command that waits until it is ready.
pub fn unit(slot: usize) -> (Program, Vec<String>) {
    let text = block("systemd.md", "tallymesh@.service").replace("%i", &slot.to_string());
    let all = |key: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let words = |key: &str| all(key)[0].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let variable = |line: &String| {
        line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let command = words("ExecStart");
    let http_port = http_port(&command, slot);
    let program = Program {
        env: all("Environment").iter().map(|line| variable(line).unwrap()).collect(),
        command,
        http_port,
        pre_stop: Duration::ZERO,
        grace: Duration::from_secs(all("TimeoutStopSec")[0].parse().unwrap()),
        replicas: 3,
    };
    (program, words("ExecStartPost"))
}

/// The command that a page has each of several processes started by, and what becomes of it in this slot.
pub fn worker(slot: usize) -> Program {
    let line = block("processes.md", "worker");
    let command: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Program {
        http_port: http_port(&command, slot),
        command,
        env: Vec::new(),
        pre_stop: Duration::ZERO,
        grace: Duration::from_secs(10),
        replicas: 3,
    }
}

/// The value of a variable: as it is given, or from the one secret that there is.
fn value(variable: &Value) -> String {
    let Some(secret) = at(variable, "valueFrom.secretKeyRef") else {
        return text(variable, "value");
    };
    let of_secret = (text(secret, "name"), text(secret, "key"));
    assert_eq!(of_secret, ("tallymesh-key".into(), "cluster.key".into()));
    KEY.repeat(32)
}

/// What the key is made of that the pods have.
const KEY: &str = "5e";

fn http_port(command: &[String], slot: usize) -> u16 {
    let first: u16 = command.last().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    first + u16::try_from(slot).unwrap()
}

/// What is at a path of keys, which a `.` or, where a key has one, a `/` is between.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let between = if path.contains('/') { '/' } else { '.' };
    path.split(between).try_fold(value, |value, key| value.get(key))
}

fn text(value: &Value, path: &str) -> String {
    at(value, path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, path: &str) -> u16 {
    at(value, path)
        .and_then(Value::as_u64)
        .and_then(|n| n.try_into().ok())
        .unwrap_or_else(|| panic!("no {path}"))
}

//! What variables of the environment set, and what they leave alone.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::super::file;
use super::super::names::node_id_of_host;
use super::super::settings::{Kind, SETTINGS, Setting};
use super::super::tls::PATHS;
use super::*;

/// A builder from this file, with these variables and no others.
fn read(text: &str, variables: &[(&str, &str)]) -> Result<ConfigBuilder, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tallymesh.toml");
    std::fs::write(&path, text).unwrap();
    let owned = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    file::read(&path, variables.iter().map(owned))
}

fn config(variables: &[(&str, &str)]) -> Config {
    read(MINIMAL, variables).and_then(ConfigBuilder::build).unwrap()
}

fn message(variables: &[(&str, &str)]) -> String {
    read(MINIMAL, variables).and_then(ConfigBuilder::build).expect_err("a refusal").to_string()
}

/// A value that the setting may have and no default is, as TOML and as a variable.
fn example(setting: &Setting) -> (String, String) {
    let text = |value: &str| (format!("{value:?}"), value.to_owned());
    let bare = |value: String| (value.clone(), value);
    match setting.kind {
        Kind::Text if setting.path == "gossip.listen" => text("127.0.0.1:1"),
        Kind::Text if setting.path == "gossip.advertise" => text("10.0.0.7:1"),
        Kind::Text if setting.path.ends_with("key_file") => text(&key_file()),
        Kind::Text if setting.path == "operator.public_key" => text(&"7f".repeat(32)),
        Kind::Text => text("other"),
        Kind::Keys | Kind::NodeKey => text(KEY),
        Kind::Texts if setting.path == "gossip.members" => (format!("[{:?}]", member()), member()),
        Kind::Texts => ("[\"h:1\", \"i:2\"]".to_owned(), "h:1, i:2,".to_owned()),
        Kind::Flag => bare("true".to_owned()),
        Kind::OneOf(words) => text(words[words.len() - 1]),
        Kind::Duration(_, most) if setting.path == "gossip.silence_timeout" => {
            text(&in_words(most))
        }
        Kind::Duration(least, _) => text(&in_words(least + Duration::from_millis(1))),
        Kind::DurationOrNever(..) => text("never"),
        Kind::Count(_, most) => bare(most.to_string()),
        Kind::Fraction(_, most) => bare(format!("{most:?}")),
    }
}

const KEY: &str = "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f";

/// The node of these tests as a member, by the key.
fn member() -> String {
    format!("a={}", crate::NodeKey::parse(KEY).unwrap().public_key())
}

/// The path of a file with a key.
fn key_file() -> String {
    static FILE: std::sync::LazyLock<tempfile::NamedTempFile> = std::sync::LazyLock::new(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KEY).unwrap();
        file
    });
    FILE.path().to_str().unwrap().to_owned()
}

fn in_words(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[test]
fn each_row_has_a_variable_that_does_what_the_file_would() {
    // Certificates come together, and from files.
    let alone = |setting: &&Setting| setting.table() != "node" && !PATHS.contains(&setting.path);
    for setting in SETTINGS.iter().filter(alone) {
        let (toml, text) = example(setting);
        let base = match setting.path {
            "storage.in_memory" => "[node]\nid = \"a\"\n".to_owned(),
            // It makes no sense by itself.
            "gossip.advertise" => format!("{MINIMAL}[gossip]\nlisten = \"127.0.0.1:1\"\n"),
            "gossip.node_key" | "gossip.node_key_file" => {
                format!("{MINIMAL}[gossip]\nmembers = [{:?}]\n", member())
            }
            "gossip.members" => format!("{MINIMAL}[gossip]\nnode_key = {KEY:?}\n"),
            _ => MINIMAL.to_owned(),
        };
        let head = format!("[{}]\n", setting.table());
        let head = if base.contains(&head) { "" } else { &head };
        let file = format!("{base}{head}{} = {toml}\n", setting.name());
        let expected = read(&file, &[]).unwrap().build().expect(setting.path);
        let found = read(&base, &[(&setting.variable(), &text)]).unwrap().build().unwrap();
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{}", setting.path);
    }
    let node = [("TALLYMESH_NODE_ID", "b"), ("TALLYMESH_NODE_DATA_DIR", "e")];
    let found = config(&node);
    assert_eq!((found.node.as_str(), found.data_dir.as_deref()), ("b", Some(Path::new("e"))));
    // What the environment sets need not be in the file.
    assert_eq!(read("", &node).unwrap().build().unwrap().node.as_str(), "b");
}

#[test]
fn a_refusal_names_the_variable_its_value_and_what_is_allowed() {
    for (name, value, allowed) in [
        ("TALLYMESH_NODE_ID", "a b", "1 to 64 ASCII letters"),
        ("TALLYMESH_GOSSIP_INTERVAL", "soon", "a duration such as"),
        ("TALLYMESH_GOSSIP_INTERVAL", "2h", "1ms to 1m"),
        ("TALLYMESH_GOSSIP_LISTEN", "7946", "an IP address and a port"),
        ("TALLYMESH_GOSSIP_LISTEN", "0.0.0.0:1", "insecure = true"),
        ("TALLYMESH_GOSSIP_PEERS", "h:1,10.0.0.7", "host:port"),
        ("TALLYMESH_GOSSIP_INSECURE", "yes", "true or false"),
        ("TALLYMESH_GOSSIP_URGENT_AT", "high", "0.0 to 1.0"),
        ("TALLYMESH_GOSSIP_URGENT_AT", "1.5", "0.0 to 1.0"),
        ("TALLYMESH_GOSSIP_FANOUT", "-1", "1 to 1024"),
        ("TALLYMESH_STORAGE_DURABILITY", "none", "\"relaxed\" or \"sync\""),
        ("TALLYMESH_COUNTERS_MAX_COUNTERS", "0", "1 to 100000000"),
    ] {
        let message = message(&[(name, value)]);
        let shown = value.rsplit(',').next().unwrap();
        for part in [name, shown, allowed] {
            assert!(message.contains(part), "{name}={value}: {message:?}, without {part:?}");
        }
    }
    let said = refused("[gossip]\ninterval = \"2h\"");
    assert!(!said.contains("TALLYMESH"), "{said}");
}

#[test]
fn an_unknown_variable_of_a_table_is_an_error_and_others_are_left_alone() {
    let message = message(&[("TALLYMESH_NODE_IDD", "a")]);
    for part in ["TALLYMESH_NODE_IDD", "TALLYMESH_NODE_ID", "TALLYMESH_NODE_DATA_DIR"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("TALLYMESH_GOSSIP"), "{message}");
    let unchanged = format!("{:?}", Config::from_toml(MINIMAL).unwrap());
    for other in [
        ("TALLYMESH_LOG", "debug"),
        ("TALLYMESH_SEED", "7"),
        ("TALLYMESH_NODE", "7"),
        ("TALLYMESH_LIMIT_X", "7"),
        ("GOSSIP_INTERVAL", "2h"),
        // Empty is not set.
        ("TALLYMESH_GOSSIP_INTERVAL", ""),
        ("TALLYMESH_GOSSIP_NO_SETTING", ""),
    ] {
        assert_eq!(format!("{:?}", config(&[other])), unchanged, "{other:?}");
    }
}

#[test]
fn a_builder_overrides_the_environment_and_that_the_file() {
    let file = format!("{MINIMAL}[gossip]\ninterval = \"10ms\"\nfanout = 5\ndirect_up_to = 6\n");
    let variables = [("TALLYMESH_GOSSIP_INTERVAL", "20ms"), ("TALLYMESH_GOSSIP_FANOUT", "7")];
    let built = read(&file, &variables).unwrap().fanout(8).build().unwrap();
    let gossip = &built.gossip;
    assert_eq!(gossip.interval, Duration::from_millis(20));
    assert_eq!((gossip.fanout, gossip.direct_up_to), (8, 6));
}

#[test]
fn what_excludes_a_setting_of_the_file_replaces_it() {
    let in_memory = config(&[("TALLYMESH_STORAGE_IN_MEMORY", "true")]);
    assert_eq!(in_memory.data_dir, None);
    assert!(config(&[("TALLYMESH_STORAGE_IN_MEMORY", "false")]).data_dir.is_some());
    let back = read(MINIMAL, &[("TALLYMESH_STORAGE_IN_MEMORY", "true")]).unwrap().data_dir("e");
    assert_eq!(back.build().unwrap().data_dir.as_deref(), Some(Path::new("e")));
    let file = format!("{MINIMAL}[storage]\npersist_every = \"1s\"\n");
    let sync = read(&file, &[("TALLYMESH_STORAGE_DURABILITY", "sync")]).unwrap().build().unwrap();
    assert_eq!(sync.durability, Durability::Sync);
    // In one place, both are a contradiction.
    let both = [("TALLYMESH_STORAGE_IN_MEMORY", "true"), ("TALLYMESH_NODE_DATA_DIR", "d")];
    assert!(message(&both).contains("TALLYMESH_NODE_DATA_DIR"));
    assert!(Config::builder("a").in_memory().data_dir("d").build().is_err());
}

#[test]
fn a_node_may_be_named_after_its_host() {
    let name = gethostname::gethostname();
    if name.to_str().is_some_and(|name| name.parse::<NodeId>().is_ok()) {
        let built = Config::builder("@hostname").in_memory().build().unwrap();
        assert_eq!(OsStr::new(built.node.as_str()), name);
        assert_eq!(OsStr::new(config(&[("TALLYMESH_NODE_ID", "@hostname")]).node.as_str()), name);
    }
    assert_eq!(node_id_of_host(OsStr::new("web-1.example")).unwrap().as_str(), "web-1.example");
    let message = node_id_of_host(OsStr::new("my host")).unwrap_err().to_string();
    for part in ["node.id", "\"@hostname\"", "\"my host\"", "1 to 64 ASCII letters"] {
        assert!(message.contains(part), "{message}");
    }
}

//! Which version of each contender takes part.

use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

/// A package with the version that this program is built with.
pub fn of(package: &str) -> String {
    // The very file that the build went by.
    let lock: Lock = toml::from_str(include_str!("../../Cargo.lock")).expect("Cargo writes TOML");
    let mut found = lock.package.iter().filter(|held| held.name == package);
    let version = found.next().map_or("absent", |held| &held.version);
    assert!(found.next().is_none(), "several versions of {package} are in use");
    format!("{package} {version}")
}

/// `Redis server v=7.0.15`, or nothing where it is not installed.
pub fn of_redis_server() -> Option<String> {
    let output = Command::new("redis-server").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split(" sha=").next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn everybody_has_one_version() {
        for package in ["tallymesh", "governor", "limitador", "dashmap", "redis"] {
            let version = of(package);
            assert!(!version.ends_with("absent"), "{version}");
        }
        assert_eq!(
            of("tallymesh-compare"),
            concat!("tallymesh-compare ", env!("CARGO_PKG_VERSION"))
        );
    }
}

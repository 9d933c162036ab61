//! The rows against the TOML file, the ranges and the defaults.

use std::collections::BTreeSet;

use super::super::settings::{DefaultValue, Kind, SETTINGS, Setting};
use super::super::validate::{Origin, Value, Values};
use super::*;

/// A setting as a line of TOML, under its table.
fn toml(setting: &Setting, value: &str) -> String {
    let value = match setting.kind {
        Kind::Text
        | Kind::Keys
        | Kind::NodeKey
        | Kind::OneOf(_)
        | Kind::Duration(..)
        | Kind::DurationOrNever(..) => {
            format!("{value:?}")
        }
        Kind::Texts | Kind::Flag | Kind::Count(..) | Kind::Fraction(..) => value.to_owned(),
    };
    format!("[{}]\n{} = {value}\n", setting.table(), setting.name())
}

/// A file with this one setting beside those that are required.
fn file_with(setting: &Setting, value: &str) -> String {
    let line = toml(setting, value);
    // Its table is there already.
    format!("{MINIMAL}{}", line.strip_prefix("[node]\n").unwrap_or(&line))
}

#[test]
fn a_file_may_set_each_row_and_its_default_is_what_applies_without_it() {
    let defaults = format!("{:?}", Config::from_toml(MINIMAL).unwrap());
    for setting in SETTINGS {
        let DefaultValue::Is(value) = setting.default else { continue };
        let config = Config::from_toml(&file_with(setting, value)).expect(setting.path);
        assert_eq!(format!("{config:?}"), defaults, "{}", setting.path);
    }
    let listening = format!("{MINIMAL}[gossip]\nlisten = \"127.0.0.1:0\"\n");
    assert!(Config::from_toml(&listening).unwrap().listen.is_some());
}

#[test]
fn a_file_may_set_nothing_but_the_rows() {
    for table in SETTINGS.iter().map(Setting::table).collect::<BTreeSet<_>>() {
        let message = Config::from_toml(&format!("[{table}]\nno_setting = 1\n")).unwrap_err();
        let message = message.to_string();
        let listed = message.split("expected one of ").nth(1).expect(table).lines().next().unwrap();
        let listed: Vec<&str> = listed.split(", ").map(|name| name.trim_matches('`')).collect();
        let here = SETTINGS.iter().filter(|setting| setting.table() == table);
        assert_eq!(listed, here.map(Setting::name).collect::<Vec<_>>());
        assert!(message.contains("`no_setting`") && message.contains("line 2"), "{message}");
    }
    let message = refused("[no_table]\n");
    for part in ["`no_table`", "`node`", "`gossip`", "`storage`", "`counters`", "`limit`"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn what_is_required_is_asked_for() {
    for (text, missing) in [("", "node"), ("[gossip]\n", "node"), ("[node]\n", "id")] {
        let message = Config::from_toml(text).unwrap_err().to_string();
        assert!(message.contains(&format!("missing field `{missing}`")), "{message}");
    }
}

#[test]
fn the_defaults_are_those_of_the_core() {
    let config = Config::from_toml(MINIMAL).unwrap();
    assert_eq!(format!("{:?}", config.gossip), format!("{:?}", GossipSettings::default()));
    assert_eq!(format!("{:?}", config.bounds), format!("{:?}", Bounds::default()));
}

/// The values just outside of a setting's range, and those at its ends.
fn around(setting: &Setting) -> (Vec<String>, Vec<Value>) {
    let time = |duration: Duration| humantime::format_duration(duration).to_string();
    let ms = Duration::from_millis(1);
    match setting.kind {
        Kind::Duration(least, most) | Kind::DurationOrNever(least, most) => {
            let below = least.checked_sub(ms).map(time);
            let outside = below.into_iter().chain([time(most + ms)]).collect();
            (outside, vec![Value::Duration(least), Value::Duration(most)])
        }
        Kind::Count(least, most) => {
            let below = least.checked_sub(1).map(|below| below.to_string());
            let outside = below.into_iter().chain([(most + 1).to_string()]).collect();
            (outside, vec![Value::Count(least), Value::Count(most)])
        }
        Kind::Fraction(least, most) => {
            let outside = vec![(least - 0.1).to_string(), (most + 0.1).to_string()];
            (outside, vec![Value::Fraction(least), Value::Fraction(most)])
        }
        Kind::OneOf(words) => {
            let inside = words.iter().map(|word| Value::Text((*word).to_owned()));
            (vec!["no such word".to_owned()], inside.collect())
        }
        Kind::Text | Kind::Texts | Kind::Keys | Kind::NodeKey | Kind::Flag => {
            (Vec::new(), Vec::new())
        }
    }
}

#[test]
fn a_value_outside_of_the_range_is_refused_and_the_ends_are_not() {
    for setting in SETTINGS {
        let (outside, ends) = around(setting);
        for value in outside {
            let message = Config::from_toml(&file_with(setting, &value)).expect_err(setting.path);
            let message = message.to_string();
            for part in [setting.path, &value, &setting.allowed()] {
                assert!(message.contains(part), "{}: {message}", setting.path);
            }
        }
        for end in ends {
            let mut values = Values::default();
            values.set(setting.path, end, Origin::Builder);
            values.check(setting).expect(setting.path);
        }
    }
}

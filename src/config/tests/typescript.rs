//! The rows against the types of the Node.js package.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::settings::{DefaultValue, Kind, SETTINGS, Setting};

/// A property as the row says it: `dataDir?: string;`.
fn property(setting: &Setting) -> String {
    let optional = if setting.default == DefaultValue::Required { "" } else { "?" };
    let kind = match setting.kind {
        Kind::Text | Kind::Keys | Kind::NodeKey => "string".to_owned(),
        Kind::Texts => "readonly string[]".to_owned(),
        Kind::Flag => "boolean".to_owned(),
        Kind::Duration(..) => "Duration".to_owned(),
        Kind::DurationOrNever(..) => "Duration | 'never'".to_owned(),
        Kind::Count(..) | Kind::Fraction(..) => "number".to_owned(),
        Kind::OneOf(words) => {
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" | ")
        }
    };
    format!("{}{optional}: {kind};", camel_case(setting.name()))
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

#[test]
fn the_types_of_the_node_js_package_name_exactly_the_rows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/lib/config.ts");
    let source = std::fs::read_to_string(path).unwrap();
    let tables: BTreeSet<&str> = SETTINGS.iter().map(Setting::table).collect();
    for table in &tables {
        let interface =
            format!("export interface {}{}Config {{\n", table[..1].to_uppercase(), &table[1..]);
        let body = source.split(&interface).nth(1).expect(table).split("\n}").next().unwrap();
        let lines = body.lines().filter_map(|line| line.trim().strip_prefix("readonly "));
        let there: BTreeSet<String> = lines.map(str::to_owned).collect();
        let here = SETTINGS.iter().filter(|setting| setting.table() == *table);
        assert_eq!(
            there,
            here.map(property).collect::<BTreeSet<_>>(),
            "{table} in node/lib/config.ts"
        );
    }
    let config =
        source.split("export interface Config {\n").nth(1).unwrap().split("\n}").next().unwrap();
    let names = config.lines().filter_map(|line| line.trim().strip_prefix("readonly "));
    let names: BTreeSet<&str> = names.filter_map(|line| line.split(['?', ':']).next()).collect();
    assert_eq!(names, tables.into_iter().chain(["limits"]).collect());
}

/// Without commas and units in words, so that `2,048` is found in `2048`.
#[test]
fn the_comments_of_the_node_js_package_say_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/lib/config.ts");
    let source = std::fs::read_to_string(path).unwrap().replace(',', "");
    for setting in SETTINGS {
        let DefaultValue::Is(default) = setting.default else { continue };
        if setting.kind == Kind::Texts {
            continue;
        }
        let property = format!("readonly {}", property(setting));
        let (before, _) = source.split_once(&property).expect(setting.path);
        let comment = before.rsplit("/**").next().unwrap();
        let said = match setting.kind {
            Kind::OneOf(_) => comment.contains(&format!("`'{default}'` (the default)")),
            Kind::Duration(..) | Kind::DurationOrNever(..) => {
                comment.contains(&format!("Default: `'{default}'`."))
            }
            _ => comment.contains(&format!("Default: {default}.")),
        };
        assert!(said, "{}: {comment}", setting.path);
    }
}

/// A setting as a row of the Node.js package's own table.
fn row(setting: &Setting) -> String {
    let kind = match setting.kind {
        Kind::Text => "text",
        Kind::Keys | Kind::NodeKey => "secret",
        Kind::Texts => "texts",
        Kind::Flag => "flag",
        Kind::Duration(..) | Kind::DurationOrNever(..) => "duration",
        Kind::Count(..) => "count",
        Kind::Fraction(..) => "fraction",
        Kind::OneOf(_) => "word",
    };
    let default = match setting.default {
        DefaultValue::Is(default) => format!(", default: '{default}'"),
        DefaultValue::Required | DefaultValue::Nothing => String::new(),
    };
    let (path, allowed) = (camel_case(setting.path), setting.allowed());
    format!("  '{path}': {{ kind: '{kind}', allowed: '{allowed}'{default} }},")
}

#[test]
fn the_table_of_the_node_js_package_has_exactly_the_rows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/lib/settings.ts");
    let source = std::fs::read_to_string(path).unwrap();
    let table = source.split("export const SETTINGS").nth(1).unwrap();
    let table = table.split("\n};").next().unwrap();
    let there: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(there, SETTINGS.iter().map(row).collect::<Vec<_>>());
}

//! The status, for people.

use std::fmt::Write;

use serde_json::Value;

/// Each line is one thing; what is wrong comes first.
pub fn text(status: &Value) -> String {
    let mut out = String::new();
    write(&mut out, status).expect("text takes what is written");
    out
}

fn write(out: &mut String, status: &Value) -> std::fmt::Result {
    let text = |name: &str| plain(&status[name]);
    writeln!(out, "replica       {}", text("replica"))?;
    writeln!(out, "state         {}, {}", text("state"), text("durability"))?;
    for reason in status["reasons"].as_array().into_iter().flatten() {
        writeln!(out, "  ! {}", plain(reason))?;
    }
    if !status["set_aside"].is_null() {
        writeln!(out, "set aside     {}", text("set_aside"))?;
    }
    let ready = if status["ready"] == true { "yes" } else { "not yet" };
    writeln!(out, "ready         {ready}")?;
    for reason in status["waiting_for"].as_array().into_iter().flatten() {
        writeln!(out, "  without: {}", plain(reason))?;
    }
    writeln!(out, "listens       {}", text("address"))?;
    for key in status["keys"].as_array().into_iter().flatten() {
        writeln!(out, "key           {}", plain(key))?;
    }
    let numbers = [
        "counters",
        "clock_behind_ms",
        "requests_unmatched",
        "log_lines_dropped",
        "thread_restarts",
    ];
    for name in numbers {
        writeln!(out, "{:<19} {}", name.replace('_', " "), text(name))?;
    }
    writeln!(out, "\ncluster of {}", text("cluster_size"))?;
    for member in status["members"].as_array().into_iter().flatten() {
        writeln!(out, "  {}", self::member(member))?;
    }
    let said = status["operator"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !said.is_empty() {
        writeln!(out, "\nthe operator said")?;
    }
    for entry in said {
        writeln!(out, "  {}", super::operator::line(entry))?;
    }
    writeln!(out, "\nbounds")?;
    for bound in status["bounds"].as_array().into_iter().flatten() {
        let held = match &bound["held"] {
            Value::Null => String::new(),
            held => format!("{held} of "),
        };
        let name = plain(&bound["name"]);
        writeln!(out, "  {name:<35} {held}{}, {} refused", bound["max"], bound["refused"])?;
        if let Some(what) = bound["what_to_do"].as_str() {
            writeln!(out, "    ! {what}")?;
        }
    }
    writeln!(out, "\nrejected since the start")?;
    for (name, number) in status["rejections"].as_object().into_iter().flatten() {
        writeln!(out, "  {:<35} {number}", name.replace('_', " "))?;
    }
    Ok(())
}

fn member(member: &Value) -> String {
    let mut parts = Vec::new();
    parts.push(match (&member["replica"], &member["address"]) {
        (Value::Null, address) => plain(address),
        (replica, Value::Null) => plain(replica),
        (replica, address) => format!("{} at {}", plain(replica), plain(address)),
    });
    match &member["absence"] {
        Value::Null => parts.push("connected".to_owned()),
        absence => parts.push(format!("not connected: {}", plain(absence))),
    }
    parts.push(format!("{} updates unconfirmed", member["lag"]));
    for (name, unit, what) in [
        ("last_heard_ms", "ms ago", "heard"),
        ("round_trip_us", "us", "round trip"),
        ("clock_offset_ms", "ms", "clock"),
    ] {
        if !member[name].is_null() {
            parts.push(format!("{what} {} {unit}", member[name]));
        }
    }
    if !member["key"].is_null() {
        parts.push(format!("key {}", plain(&member["key"])));
    }
    for limit in member["different_limits"].as_array().into_iter().flatten() {
        parts.push(format!("has another limit {limit}"));
    }
    parts.join(", ")
}

/// A value without the quotes of text; a dash for none.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

//! `tallymesh replay`.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::{now, shared, tallymesh, text};

fn replay(trace: &Path, pace: &str) -> Value {
    let args =
        ["replay", "--trace", trace.to_str().unwrap(), "--nodes", "3", "--pace", pace, "--json"];
    let output = tallymesh(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_replay_that_settles_between_calls_does_not_overshoot() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace.csv");
    let rows: String = (0..60).map(|n| format!("s{},{},book\n", n % 2, n / 30)).collect();
    std::fs::write(&trace, format!("session,turn,tool\n{rows}")).unwrap();
    let settled = replay(&trace, "settle");
    assert_eq!((&settled["overshoot"], &settled["false_denials"]), (&0.into(), &0.into()));
    assert_eq!((&settled["calls"], &settled["allowed"]), (&60.into(), &20.into()));
    let hasty = replay(&trace, "max");
    assert_eq!(hasty["false_denials"], 0);
    let allowed = hasty["allowed"].as_u64().unwrap();
    assert!((20..=60).contains(&allowed), "{hasty}");
    assert!(hasty["overshoot"].as_u64().unwrap() >= allowed - 20, "{hasty}");
}

#[test]
fn the_calls_of_a_real_model_do_not_overshoot_when_settled() {
    let Some(trace) = shared("traces/tau_bench_airline.csv") else { return };
    let settled = replay(&trace, "settle");
    assert_eq!((&settled["overshoot"], &settled["false_denials"]), (&0.into(), &0.into()));
    assert_eq!(settled["calls"], 1164);
    assert!(settled["denied"].as_u64().unwrap() > 0, "some turns make more calls than allowed");
}

/// Replays a trace with these options, and returns the report, or the error.
fn replayed(
    dir: &Path,
    trace: &str,
    limits: Option<&str>,
    options: &[&str],
) -> Result<Value, String> {
    let (trace_file, limits_file) = (dir.join("trace.csv"), dir.join("limits.toml"));
    std::fs::write(&trace_file, trace).unwrap();
    let mut args = vec!["replay", "--json", "--trace", trace_file.to_str().unwrap()];
    if let Some(limits) = limits {
        std::fs::write(&limits_file, limits).unwrap();
        args.extend(["--limits", limits_file.to_str().unwrap()]);
    }
    args.extend(options);
    let output = tallymesh(&args);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(text(&output.stderr)),
    }
}

#[test]
fn unknown_columns_are_an_error_that_names_them_and_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let trace = "session,turn,tool,status,latency_ms\ns,1,t,200,5\n";
    let error = replayed(dir.path(), trace, None, &[]).unwrap_err();
    for part in
        ["\"status\", \"latency_ms\"", "session, turn, tool, time, cost", "trace.csv", "line 1"]
    {
        assert!(error.contains(part), "{error}");
    }
    let report = replayed(dir.path(), trace, None, &["--ignore", "status,latency_ms"]).unwrap();
    assert_eq!(report["allowed"], 1);
}

#[test]
fn any_label_that_a_limit_looks_at_is_a_column_and_costs_are_charged() {
    let dir = tempfile::tempdir().unwrap();
    let limits = "[[limit]]\nname = \"tokens\"\nper = [\"user\", \"model\"]\nmax = 1000\nwindow = \"1d\"\n\
                  [[limit]]\nname = \"books\"\nwhen = { action = \"book*\" }\nper = [\"user\"]\nmax = 1\nwindow = \"1d\"\n";
    let trace = "user,model,action,cost\nu1,m,read,600\nu1,m,read,500\nu1,m,book a,400\nu2,m,book b,\nu1,n,book c,0\n";
    let report = replayed(dir.path(), trace, Some(limits), &[]).unwrap();
    assert_eq!(
        (&report["calls"], &report["allowed"], &report["denied"]),
        (&5.into(), &3.into(), &2.into())
    );
    assert_eq!((&report["overshoot"], &report["false_denials"]), (&0.into(), &0.into()));
    let error = replayed(dir.path(), "model\nm\n", Some(limits), &[]).unwrap_err();
    assert!(error.contains("\"user\" is missing, by which the limit \"tokens\""), "{error}");
}

#[test]
fn a_session_stays_on_its_instance_and_does_not_overshoot_there() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..400).map(|n| format!("s{},1,t\n", n % 4)).collect();
    let trace = format!("session,turn,tool\n{rows}");
    let route = |route| replayed(dir.path(), &trace, None, &["--pace", "max", "--route", route]);
    let sticky = route("session").unwrap();
    assert_eq!((&sticky["route"], &sticky["allowed"]), (&"session".into(), &20.into()));
    assert_eq!((&sticky["overshoot"], &sticky["false_denials"]), (&0.into(), &0.into()));
    assert_eq!(route("round-robin").unwrap()["route"], "round-robin");
    let error =
        replayed(dir.path(), "tool\nt\n", Some(PER_TOOL), &["--route", "session"]).unwrap_err();
    assert!(error.contains("no column \"session\""), "{error}");
}

const PER_TOOL: &str = "[[limit]]\nname = \"l\"\nper = [\"tool\"]\nmax = 1\nwindow = \"20s\"\n";

#[test]
fn the_worst_counters_are_reported_with_per_cent_used_and_time_left() {
    let dir = tempfile::tempdir().unwrap();
    let trace = format!("session,turn,tool\n{}s2,1,t\n", "s1,1,t\n".repeat(8));
    let report = replayed(dir.path(), &trace, None, &["--worst", "3"]).unwrap();
    let worst = report["worst"].as_array().unwrap();
    assert_eq!((worst.len(), &report["counters"]), (3, &4.into()));
    assert_eq!(
        worst[0]["labels"],
        serde_json::json!({ "session": "s1", "turn": "1", "tool": "t" })
    );
    assert_eq!(
        (&worst[0]["used"], &worst[0]["max"], &worst[0]["asked"]),
        (&5.into(), &5.into(), &8.into())
    );
    let percent: Vec<f64> = worst.iter().map(|one| one["percent"].as_f64().unwrap()).collect();
    assert_eq!(percent, [100.0, 50.0, 20.0]);
    assert!(
        worst.iter().all(|one| (3_000_000..=3_600_000).contains(&one["left_ms"].as_u64().unwrap()))
    );

    let file = dir.path().join("trace.csv");
    let shown = tallymesh(&["replay", "--trace", file.to_str().unwrap()]);
    let shown = text(&shown.stdout);
    let line = "worst: 5 of 5 (100%), 8 asked, 1h left: per session, turn and tool, session=s1 tool=t turn=1";
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
}

#[test]
fn calls_are_made_at_their_times_and_windows_get_as_short_as_the_speed_says() {
    let dir = tempfile::tempdir().unwrap();
    // Two calls, 100 s apart, in windows of 20 s: both are admitted at any speed, if the windows get shorter with it.
    for (first, second) in [
        ("0", "100.0"),
        ("1790000000000", "1790000100000"),
        ("2026-01-31T23:59:50Z", "2026-02-01 01:01:30+01:00"),
    ] {
        // Not in order: they are sorted.
        let trace = format!("time,tool\n{second},t\n{first},t\n");
        let began = now();
        let report = replayed(dir.path(), &trace, Some(PER_TOOL), &["--speed", "100x"]).unwrap();
        assert!(now() - began >= Duration::from_secs(1), "no call is made before its time");
        assert_eq!(
            (&report["pace"], &report["speed"]),
            (&"times".into(), &100.0.into()),
            "{first}"
        );
        assert_eq!((&report["allowed"], &report["denied"]), (&2.into(), &0.into()), "{first}");
    }
    for (trace, options, expected) in [
        ("tool\nt\n", &["--speed", "2"][..], "no column \"time\""),
        ("tool\nt\n", &["--pace", "times"], "no column \"time\""),
        ("tool,time\nt,0\n", &["--pace", "max", "--speed", "2"], "is for --pace times"),
        ("tool,time\nt,0\n", &["--speed", "1000"], "the fastest for it is --speed 200"),
        ("tool,time\nt,0\n", &["--speed", "0"], "0.001 to 1000000"),
        ("tool,time\nt,noon\n", &[], "line 2: time \"noon\""),
    ] {
        let error = replayed(dir.path(), trace, Some(PER_TOOL), options).unwrap_err();
        assert!(error.contains(expected), "{options:?}: {error}");
    }
    let report = replayed(
        dir.path(),
        "tool,time\nt,0\nt,9\n",
        Some(PER_TOOL),
        &["--pace", "max", "--nodes", "1"],
    )
    .unwrap();
    assert_eq!((&report["speed"], &report["denied"]), (&Value::Null, &1.into()));
}

#[test]
fn sessions_end_within_a_replay_and_the_exact_counter_knows() {
    let dir = tempfile::tempdir().unwrap();
    let limits = "[[limit]]\nname = \"l\"\nper = [\"session\"]\nmax = 1\nwindow = \"session\"\nsession_ttl = \"20s\"\n";
    // Used at 0 and 15, so it lives at 30; at 75 it has ended.
    let trace = "time,session\n0,s\n15,s\n30,s\n75,s\n";
    let options = ["--speed", "50", "--route", "session"];
    let report = replayed(dir.path(), trace, Some(limits), &options).unwrap();
    assert!(report["allowed"].as_u64().unwrap() >= 2, "{report}");
    assert_eq!((&report["overshoot"], &report["false_denials"]), (&0.into(), &0.into()));
}

#[test]
fn the_calls_of_a_real_model_are_replayed_over_sticky_sessions_as_fast_as_can_be() {
    let Some(trace) = shared("traces/tau_bench_airline.csv") else { return };
    let args = [
        "replay",
        "--json",
        "--pace",
        "max",
        "--route",
        "session",
        "--trace",
        trace.to_str().unwrap(),
    ];
    let output = tallymesh(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["overshoot"], &report["false_denials"]), (&0.into(), &0.into()));
    assert_eq!((&report["calls"], &report["worst"][0]["percent"]), (&1164.into(), &100.0.into()));
}

#[test]
fn a_trace_can_be_piped() {
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_tallymesh"))
        .args(["replay", "--json", "--trace", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"session,turn,tool\ns,1,t\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["allowed"], 1);
}

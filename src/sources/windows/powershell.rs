//! PowerShell: script blocks (4104), module logging (4103), host and pipeline (400, 403, 600, 800). Here the logging process and
//! account are the subject.

use super::{Facts, Record, one};
use crate::model::fact::Script;
use crate::sources::scalar;

pub(super) fn facts(record: &Record<'_>) -> Facts {
    match record.event_id {
        4104 => one(block(record)),
        4103 => one(module(record)),
        _ => Facts::new(),
    }
}

fn block(record: &Record<'_>) -> Script {
    let v = &record.values;
    Script {
        kind: Some("block".to_owned()),
        pid: record.logging_pid,
        script_id: v.string("ScriptBlockId"),
        part: v.number("MessageNumber").or(Some(1)),
        parts: v.number("MessageTotal").or(Some(1)),
        text: v.string("ScriptBlockText"),
        path: v.string("Path"),
        command_line: None,
        user_name: record.logging_user.clone(),
    }
}

fn module(record: &Record<'_>) -> Script {
    let v = &record.values;
    let context = v.text("ContextInfo").unwrap_or_default();
    // The labels are in the machine's language: the fifth line is the host application.
    let labelled = |label: &str| {
        let line =
            context.lines().find_map(|line| line.trim_start().strip_prefix(label)?.trim_start().strip_prefix('='));
        line.map(str::trim).filter(|text| !scalar::is_null(text))
    };
    let fifth = context.lines().filter(|line| !line.trim().is_empty()).nth(4).and_then(|line| line.split_once('='));
    let application = labelled("Host Application").or_else(|| fifth.map(|(_, value)| value.trim()));
    let from_ecs = |path: &str| v.ecs.and_then(|doc| doc.str_at(path)).map(str::to_owned);
    Script {
        kind: Some("module".to_owned()),
        pid: record.logging_pid,
        script_id: None,
        part: None,
        parts: None,
        text: v.string("Payload").or_else(|| from_ecs("powershell.command.value")),
        path: labelled("Script Name").map(str::to_owned).or_else(|| v.string("Path")),
        command_line: application.map(str::to_owned).or_else(|| from_ecs("process.command_line")),
        user_name: labelled("User")
            .and_then(scalar::account)
            .or_else(|| v.account("User"))
            .or_else(|| record.logging_user.clone()),
    }
}

/// 400, 403, 600 and 800 of the classic log: nameless texts with lines `HostApplication=..`.
pub(super) fn host_facts(record: &Record<'_>) -> Facts {
    if !matches!(record.event_id, 400 | 403 | 600 | 800) {
        return Facts::new();
    }
    let v = &record.values;
    let labelled = |label: &str| {
        let lines = v.texts.iter().flat_map(|text| text.lines());
        let mut values = lines.filter_map(|line| line.trim_start().strip_prefix(label)?.strip_prefix('='));
        values.find(|value| !scalar::is_null(value)).map(str::to_owned)
    };
    let from_ecs = |path: &str| v.ecs.and_then(|doc| doc.str_at(path)).map(str::to_owned);
    let text = v.texts.first().filter(|_| record.event_id == 800).map(|text| text.clone().into_owned());
    let command_line = labelled("HostApplication").or_else(|| from_ecs("process.command_line"));
    if command_line.is_none() && text.is_none() {
        return Facts::new();
    }
    one(Script {
        kind: Some("host".to_owned()),
        pid: record.logging_pid,
        text,
        path: labelled("ScriptName"),
        command_line,
        user_name: labelled("UserId").and_then(|user| scalar::account(&user)),
        ..Script::default()
    })
}

//! Scheduled tasks: Security 4698 to 4702 with the task's XML, TaskScheduler/Operational with what it launched.

use super::{Facts, Record, one, prefixed_account, task_xml};
use crate::model::fact::Persistence;

fn task(action: &str, record: &Record<'_>) -> Persistence {
    Persistence {
        kind: Some("task".to_owned()),
        action: Some(action.to_owned()),
        name: record.values.string("TaskName"),
        ..Persistence::default()
    }
}

pub(super) fn facts(record: &Record<'_>) -> Facts {
    let v = &record.values;
    let by = |action: &str, user: &str| one(Persistence { by_user: v.account(user), ..task(action, record) });
    match record.event_id {
        106 => by("create", "UserContext"),
        140 => by("update", "UserName"),
        141 => by("delete", "UserName"),
        142 => by("disable", "UserName"),
        129 => one(Persistence { command: v.string("Path"), pid: launched_pid(record), ..task("launch", record) }),
        100 => by("launch", "UserContext"),
        102 => by("end", "UserContext"),
        107 | 108 | 110 | 118 | 119 => by("launch", "UserName"),
        // `EnginePID` is the engine, not the launched process.
        200 => one(Persistence { command: v.string("ActionName"), ..task("launch", record) }),
        201 => {
            one(Persistence { command: v.string("ActionName"), detail: v.string("ResultCode"), ..task("end", record) })
        }
        _ => Facts::new(),
    }
}

/// The launched process. NXLog's own `ProcessID` hides it, there the text has it.
fn launched_pid(record: &Record<'_>) -> Option<i64> {
    let v = &record.values;
    if !record.nxlog {
        return v.pid("ProcessID");
    }
    let (_, rest) = v.message?.rsplit_once("process ID ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().filter(|pid| *pid <= i64::from(u32::MAX))
}

/// Security 4698 to 4702: one fact per action of the task.
pub(super) fn security_facts(record: &Record<'_>) -> Facts {
    let v = &record.values;
    let action = match record.event_id {
        4698 => "create",
        4699 => "delete",
        4700 => "enable",
        4701 => "disable",
        _ => "update",
    };
    let base = Persistence {
        by_user: prefixed_account(v, "Subject"),
        pid: v.pid("ClientProcessId").filter(|pid| *pid > 0),
        ..task(action, record)
    };
    let Some(content) = v.text("TaskContentNew").or_else(|| v.text("TaskContent")) else {
        return one(base);
    };
    let (task, whole) = task_xml::read(&content);
    if !whole {
        v.note("TaskContent");
    }
    let base = Persistence {
        run_as: task.run_as,
        run_level: task.run_level.map(str::to_owned),
        hidden: task.hidden,
        author: task.author,
        triggers: (!task.triggers.is_empty()).then(|| task.triggers.join(",")),
        ..base
    };
    if task.actions.is_empty() {
        return one(base);
    }
    let of_action = |action: task_xml::Action| Persistence {
        command: action.command,
        arguments: action.arguments,
        com_class: action.com_class,
        ..base.clone()
    };
    task.actions.into_iter().map(|action| of_action(action).into()).collect()
}

//! The XML of a scheduled task (wire formats, section 10.4). Malformed text is searched for its commands instead.

use crate::sources::{
    scalar,
    xml::{self, Element},
};

/// Most actions that are read. Windows allows 32.
const MOST_ACTIONS: usize = 32;

/// One action of a task.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) command: Option<String>,
    pub(super) arguments: Option<String>,
    pub(super) com_class: Option<String>,
}

/// What a task says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) actions: Vec<Action>,
    pub(super) run_as: Option<String>,
    pub(super) run_level: Option<&'static str>,
    pub(super) hidden: Option<bool>,
    pub(super) author: Option<String>,
    pub(super) triggers: Vec<String>,
}

/// Reads the task; false if it was no XML and only searched.
pub(super) fn read(content: &str) -> (Task, bool) {
    let content = content.trim();
    let content = if content.starts_with("&lt;") { scalar::unescape_once(content) } else { content.into() };
    match xml::tree(&content) {
        Ok(root) => (of(&root), true),
        Err(_) => (searched(&content), false),
    }
}

fn given(text: &str) -> Option<String> {
    (!scalar::is_null(text)).then(|| text.trim().to_owned())
}

fn of(root: &Element) -> Task {
    let text = |path: &[&str]| root.at(path).and_then(|e| given(&e.text));
    let actions = root.children.iter().filter(|c| c.name == "Actions").flat_map(|a| &a.children);
    let child = |action: &Element, name: &str| action.child(name).and_then(|e| given(&e.text));
    Task {
        actions: actions
            .filter(|a| matches!(a.name.as_str(), "Exec" | "ComHandler"))
            .take(MOST_ACTIONS)
            .map(|a| Action {
                command: child(a, "Command"),
                arguments: child(a, "Arguments"),
                com_class: child(a, "ClassId"),
            })
            .collect(),
        run_as: text(&["Principals", "Principal", "UserId"])
            .or_else(|| text(&["Principals", "Principal", "GroupId"]))
            .and_then(|user| scalar::account(&user)),
        run_level: text(&["Principals", "Principal", "RunLevel"]).and_then(|level| match level.as_str() {
            "HighestAvailable" => Some("highest"),
            "LeastPrivilege" => Some("least"),
            _ => None,
        }),
        hidden: text(&["Settings", "Hidden"]).map(|hidden| hidden.eq_ignore_ascii_case("true") || hidden == "1"),
        author: text(&["RegistrationInfo", "Author"]),
        triggers: root.child("Triggers").map(|t| t.children.iter().map(trigger).collect()).unwrap_or_default(),
    }
}

/// Name with its repetition: `TimeTrigger/PT10M`.
fn trigger(element: &Element) -> String {
    match element.at(&["Repetition", "Interval"]).and_then(|interval| given(&interval.text)) {
        Some(interval) => format!("{}/{interval}", element.name),
        None => element.name.clone(),
    }
}

/// Commands of a text that is no XML.
fn searched(content: &str) -> Task {
    let commands = content.split("<Command>").skip(1).take(MOST_ACTIONS);
    let until =
        |text: &str, end: &str| text.split_once(end).and_then(|(inner, _)| given(&scalar::unescape_once(inner)));
    Task {
        actions: commands
            .map(|rest| Action {
                command: until(rest, "</Command>"),
                arguments: rest.split_once("<Arguments>").and_then(|(_, rest)| until(rest, "</Arguments>")),
                com_class: None,
            })
            .collect(),
        ..Task::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = r#"<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Author>CORP\a.dmin</Author></RegistrationInfo>
  <Triggers><BootTrigger><Enabled>true</Enabled></BootTrigger>
    <TimeTrigger><Repetition><Interval>PT10M</Interval></Repetition></TimeTrigger></Triggers>
  <Principals><Principal id="Author"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal></Principals>
  <Settings><Hidden>true</Hidden></Settings>
  <Actions Context="Author">
    <Exec><Command>C:\x.exe</Command><Arguments>-o a 2&gt;&amp;1</Arguments></Exec>
    <Exec><Command>C:\y.exe</Command></Exec>
    <ComHandler><ClassId>{72566E27-1ABB-4EB3-B4F0-EB431CB1CB32}</ClassId></ComHandler>
  </Actions>
</Task>"#;

    /// Section 15, case 50, and example (a).
    #[test]
    fn all_actions_are_read_also_when_the_text_was_escaped() {
        let (task, whole) = read(TASK);
        assert!(whole);
        assert_eq!(task.actions.len(), 3);
        assert_eq!(task.actions[0].command.as_deref(), Some(r"C:\x.exe"));
        assert_eq!(task.actions[0].arguments.as_deref(), Some("-o a 2>&1"));
        assert_eq!(task.actions[2].com_class.as_deref(), Some("{72566E27-1ABB-4EB3-B4F0-EB431CB1CB32}"));
        assert_eq!(task.run_as.as_deref(), Some(r"NT AUTHORITY\SYSTEM"));
        assert_eq!((task.run_level, task.hidden), (Some("highest"), Some(true)));
        assert_eq!(task.triggers, ["BootTrigger", "TimeTrigger/PT10M"]);
        let escaped = TASK.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        assert_eq!(read(&escaped), (task, true));
    }

    #[test]
    fn malformed_xml_is_searched() {
        let (task, whole) =
            read(r"<Task><Actions><Exec><Command>C:\x.exe</Command><Arguments>-o a &amp; b</Arguments></Exec>");
        assert!(!whole);
        assert_eq!(
            task.actions,
            [Action { command: Some(r"C:\x.exe".into()), arguments: Some("-o a & b".into()), com_class: None }]
        );
    }
}

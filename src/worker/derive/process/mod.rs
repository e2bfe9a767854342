//! Process instances: starts of several sources merged, ends found, parents linked; programs that were never seen to start
//! get a row from whatever names them.
//!
//! Identity: the sensor's GUID, else pid and start. All instances of a pid that something new concerns are linked anew, so the
//! order of arrival does not matter. Source: detection design, section 3.2.

mod rows;

use super::super::spans::Spans;
use rows::{delete, ends, link_parents, mentions, save, starts, stopped_pids, stored};
use crate::{
    model::{
        group,
        ids::{EventId, GroupKey, HostId, ProcessGuid},
    },
    time::Span,
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Starts of one process as several sources saw it: Sysmon 1 and Security 4688, CPU sampler.
const SAME_START: TimeDelta = TimeDelta::seconds(2);

/// A sampler and a sensor of one host may date one start this far apart, where the image is the same.
const SAME_SAMPLED_START: TimeDelta = TimeDelta::minutes(10);

/// An instance as stored in `process`.
#[derive(Debug, Clone, PartialEq)]
struct Instance {
    process_id: i64,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    last_sign: DateTime<Utc>,
    start_observed: bool,
    guid: Option<ProcessGuid>,
    pid: Option<i64>,
    image: Option<String>,
    command_line: Option<String>,
    original_file_name: Option<String>,
    company: Option<String>,
    product: Option<String>,
    description: Option<String>,
    sha256: Option<String>,
    user_name: Option<String>,
    integrity: Option<String>,
    session: Option<i64>,
    parent_guid: Option<ProcessGuid>,
    parent_pid: Option<i64>,
    parent_image: Option<String>,
    parent_command_line: Option<String>,
    group_key: i64,
    event_at: Option<DateTime<Utc>>,
    event_id: Option<EventId>,
}

/// Key of an instance with a GUID.
fn id_of_guid(guid: ProcessGuid) -> i64 {
    first_eight(EventId::of_parts([b"guid".as_slice(), guid.0.as_bytes()]))
}

/// Key of an instance known by pid and start, to the millisecond.
fn id_of_start(pid: i64, started_at: DateTime<Utc>) -> i64 {
    first_eight(EventId::of_parts([b"start".as_slice(), &pid.to_be_bytes(), &started_at.timestamp_millis().to_be_bytes()]))
}

/// Key of an instance known by pid and image only.
fn id_of_mention(pid: i64, image: &str) -> i64 {
    first_eight(EventId::of_parts([b"mention".as_slice(), &pid.to_be_bytes(), image.as_bytes()]))
}

fn first_eight(id: EventId) -> i64 {
    id.0.as_u64_pair().0.cast_signed()
}

fn name(image: Option<&str>) -> Option<String> {
    image.map(|i| group::base_name(i).to_lowercase())
}

impl Instance {
    fn group(&self) -> GroupKey {
        let image = self.image.as_deref().unwrap_or_default();
        group::group_of(image, self.command_line.as_deref(), self.sha256.as_deref()).unwrap_or(GroupKey(0))
    }

    /// Whether both are starts of one process.
    fn same(&self, other: &Self) -> bool {
        let guids = self.guid.is_none() || other.guid.is_none() || self.guid == other.guid;
        let names = match (name(self.image.as_deref()), name(other.image.as_deref())) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        guids && names && self.pid.is_some() && self.pid == other.pid && (self.started_at - other.started_at).abs() <= SAME_START
    }

    /// Whether only a sampler ever named it, with pid and start.
    fn is_sampled(&self) -> bool {
        !self.start_observed && self.guid.is_none() && self.pid.is_some_and(|pid| self.process_id == id_of_start(pid, self.started_at))
    }

    /// Whether a start that was seen may be the one that a sampler dates otherwise.
    fn is_start_of(&self, sampled: &Self) -> bool {
        self.start_observed
            && self.pid == sampled.pid
            && name(self.image.as_deref()).is_some_and(|n| Some(n) == name(sampled.image.as_deref()))
            && (self.started_at - sampled.started_at).abs() <= SAME_SAMPLED_START
    }

    /// Takes over what the other knows; the one with a GUID keeps its key, a start that was seen its time.
    fn absorb(&mut self, mut other: Self) {
        let certainty = |i: &Self| (i.guid.is_some(), i.start_observed);
        if certainty(&other) > certainty(self) {
            std::mem::swap(self, &mut other);
        }
        if other.start_observed && !self.start_observed {
            self.started_at = other.started_at;
        }
        self.last_sign = self.last_sign.max(other.last_sign);
        self.start_observed |= other.start_observed;
        macro_rules! complete { ($($field:ident),*) => { $( if self.$field.is_none() { self.$field = other.$field; } )* } }
        complete!(
            guid, pid, image, command_line, original_file_name, company, product, description, sha256, user_name, integrity, session,
            parent_guid, parent_pid, parent_image, parent_command_line, event_at, event_id
        );
    }
}

/// What is new for one host.
#[derive(Debug, Default)]
struct News {
    starts: Vec<Instance>,
    mentions: Vec<Instance>,
    pids: BTreeSet<i64>,
}

/// Derives the processes of the spans; answers the stretches in which samples and connections may now belong to another process.
pub(in crate::worker) async fn derive(db: &mut PgConnection, spans: &Spans) -> anyhow::Result<Spans> {
    let mut news: BTreeMap<i64, News> = BTreeMap::new();
    starts(db, spans, &mut news).await?;
    mentions(db, spans, &mut news).await?;
    stopped_pids(db, spans, &mut news).await?;
    let mut changed = Spans::default();
    let known = stored(db, &news).await?;
    let ends = ends(db, &news).await?;
    let (mut upsert, mut gone) = (Vec::new(), Vec::new());
    for (host, news) in news {
        let before = known.get(&host).cloned().unwrap_or_default();
        let ends = ends.get(&host).map(Vec::as_slice).unwrap_or_default();
        let after = link(merge(&before, news, |at| spans.holds(HostId(host), at)), ends);
        let mut touch = |a: &Instance| {
            if let Some(span) = Span::new(a.started_at - SAME_START, a.last_sign.max(a.started_at) + TimeDelta::seconds(3)) {
                changed.add(HostId(host), span);
            }
        };
        let kept: HashMap<i64, &Instance> = after.iter().map(|i| (i.process_id, i)).collect();
        for old in &before {
            if !kept.contains_key(&old.process_id) {
                touch(old);
                gone.push((host, old.process_id));
            }
        }
        let old: HashMap<i64, &Instance> = before.iter().map(|i| (i.process_id, i)).collect();
        for row in &after {
            match old.get(&row.process_id) {
                Some(same) if *same == row => continue,
                // A later sign of life or an end concerns no other row.
                Some(was) if was.group_key == row.group_key && was.started_at == row.started_at && was.guid == row.guid => {}
                Some(_) | None => touch(row),
            }
            upsert.push((host, row.clone()));
        }
    }
    delete(db, &gone).await?;
    save(db, &upsert).await?;
    link_parents(db, &upsert).await?;
    Ok(changed.merged())
}

/// Rows with the ways to find them; a sensor may report thousands of starts of one pid.
#[derive(Debug, Default)]
struct Rows {
    all: Vec<Instance>,
    by_id: HashMap<i64, usize>,
    by_pid: HashMap<i64, BTreeMap<(DateTime<Utc>, i64), usize>>,
    /// Those without a GUID: only they can be the same as one with another key.
    anonymous: HashMap<i64, BTreeMap<(DateTime<Utc>, i64), usize>>,
}

impl Rows {
    fn index(&mut self, at: usize) {
        let Some(row) = self.all.get(at) else { return };
        self.by_id.insert(row.process_id, at);
        if let Some(pid) = row.pid {
            self.by_pid.entry(pid).or_default().insert((row.started_at, row.process_id), at);
            if row.guid.is_none() {
                self.anonymous.entry(pid).or_default().insert((row.started_at, row.process_id), at);
            }
        }
    }

    fn push(&mut self, row: Instance) {
        self.all.push(row);
        self.index(self.all.len() - 1);
    }

    /// Rows of a pid that start at most `around` from an instant, nearest first.
    fn near(&self, known: &HashMap<i64, BTreeMap<(DateTime<Utc>, i64), usize>>, pid: Option<i64>, at: DateTime<Utc>, around: TimeDelta) -> Vec<usize> {
        let Some(starts) = pid.and_then(|p| known.get(&p)) else { return Vec::new() };
        let mut found: Vec<usize> = starts.range((at - around, i64::MIN)..=(at + around, i64::MAX)).map(|(_, n)| *n).collect();
        found.sort_by_key(|n| ((self.all[*n].started_at - at).abs(), self.all[*n].process_id));
        found
    }

    /// The row of a start: by key, else another source's start of the same process.
    fn of_start(&self, start: &Instance) -> Option<usize> {
        let known = if start.guid.is_some() { &self.anonymous } else { &self.by_pid };
        let by_id = self.by_id.get(&start.process_id).copied();
        by_id.or_else(|| self.near(known, start.pid, start.started_at, SAME_START).into_iter().find(|n| self.all[*n].same(start)))
    }

    /// The row that a mention means; its own row if it has one and no start fits better.
    fn of_mention(&self, mention: &Instance) -> Option<usize> {
        let own = self.by_id.get(&mention.process_id).copied();
        if mention.guid.is_some() {
            return own;
        }
        if mention.start_observed {
            let near = self.near(&self.by_pid, mention.pid, mention.started_at, SAME_SAMPLED_START);
            return near.into_iter().find(|n| self.all[*n].same(mention) || self.all[*n].is_start_of(mention)).or(own);
        }
        // By pid alone: the latest start before the mention that had not ended.
        let starts = mention.pid.and_then(|p| self.by_pid.get(&p))?;
        let mut before = starts.range(..=(mention.started_at + SAME_START, i64::MAX)).rev().map(|(_, n)| *n).take(100);
        before.find(|n| self.all[*n].ended_at.is_none_or(|end| end + SAME_START > mention.started_at)).or(own)
    }
}

/// All instances of the pids concerned, news included, each process once.
fn merge(before: &[Instance], news: News, in_span: impl Fn(DateTime<Utc>) -> bool) -> Vec<Instance> {
    // Seen starts inside the spans come again from their facts; the rest of what is stored stays.
    let (sampled, seen): (Vec<Instance>, Vec<Instance>) = before.iter().cloned().partition(Instance::is_sampled);
    let mut rows = Rows::default();
    for row in seen.into_iter().filter(|i| !(i.start_observed && in_span(i.started_at))) {
        rows.push(row);
    }
    for start in news.starts {
        match rows.of_start(&start) {
            Some(n) => {
                rows.all[n].absorb(start);
                rows.index(n);
            }
            None => rows.push(start),
        }
    }
    // Signs of life outside the spans stay true.
    for old in before {
        if let Some(row) = rows.by_id.get(&old.process_id).and_then(|n| rows.all.get_mut(*n)) {
            row.last_sign = row.last_sign.max(old.last_sign);
            row.command_line = row.command_line.take().or_else(|| old.command_line.clone());
            row.parent_pid = row.parent_pid.or(old.parent_pid);
        }
    }
    // What only a sampler named may belong to a start that is seen by now.
    let sampled = sampled.into_iter().map(|row| Instance { start_observed: true, ..row });
    for mut mention in sampled.chain(news.mentions) {
        let Some(n) = rows.of_mention(&mention) else {
            mention.start_observed = false;
            rows.push(mention);
            continue;
        };
        let row = &mut rows.all[n];
        row.last_sign = row.last_sign.max(mention.last_sign);
        if !row.start_observed && mention.guid == row.guid {
            row.started_at = row.started_at.min(mention.started_at);
        }
        row.command_line = row.command_line.take().or(mention.command_line);
        row.parent_pid = row.parent_pid.or(mention.parent_pid);
        row.image = row.image.take().or(mention.image);
    }
    for row in &mut rows.all {
        row.group_key = row.group().0;
    }
    rows.all
}

/// Sets the ends: seen to end, else the pid was given away. `ends` come in the order of time.
fn link(mut rows: Vec<Instance>, ends: &[(i64, Option<ProcessGuid>, DateTime<Utc>)]) -> Vec<Instance> {
    let mut by_guid: HashMap<ProcessGuid, DateTime<Utc>> = HashMap::new();
    let mut by_pid: HashMap<i64, Vec<(DateTime<Utc>, bool)>> = HashMap::new();
    for (pid, guid, at) in ends {
        if let Some(guid) = guid {
            by_guid.entry(*guid).and_modify(|t| *t = (*t).min(*at)).or_insert(*at);
        }
        by_pid.entry(*pid).or_default().push((*at, guid.is_some()));
    }
    rows.sort_by(|a, b| (a.pid, a.started_at, a.process_id).cmp(&(b.pid, b.started_at, b.process_id)));
    for n in 0..rows.len() {
        let (pid, guid, started_at) = (rows[n].pid, rows[n].guid, rows[n].started_at);
        let after = rows.partition_point(|r| (r.pid, r.started_at) <= (pid, started_at + SAME_START));
        let next = rows.get(after).filter(|r| pid.is_some() && r.pid == pid && r.start_observed).map(|r| r.started_at);
        // By GUID where both have one, else by pid inside the life.
        let by_guid = guid.and_then(|g| by_guid.get(&g)).copied();
        let mine = pid.and_then(|p| by_pid.get(&p)).map_or(&[] as &[_], Vec::as_slice);
        let by_pid = mine[mine.partition_point(|(at, _)| *at < started_at)..]
            .iter()
            .take_while(|(at, _)| next.is_none_or(|n| *at <= n + SAME_START))
            .find(|(_, has_guid)| guid.is_none() || !has_guid)
            .map(|(at, _)| *at);
        let stop = by_guid.into_iter().chain(by_pid).min();
        rows[n].ended_at = stop.into_iter().chain(next).min();
        if let Some(stop) = stop {
            rows[n].last_sign = rows[n].last_sign.max(stop);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_start_without_guid_and_a_guid_without_start_become_one_either_way() {
        let (start, named) = (instance(None, 40, 100, true), instance(Some(7), 40, 101, false));
        for (mut one, other) in [(start.clone(), named.clone()), (named.clone(), start.clone())] {
            one.absorb(other);
            assert_eq!((one.process_id, one.started_at, one.guid, one.start_observed), (named.process_id, start.started_at, named.guid, true));
        }
    }

    fn instance(guid: Option<u128>, pid: i64, start: i64, observed: bool) -> Instance {
        let guid = guid.map(|g| ProcessGuid(uuid::Uuid::from_u128(g)));
        Instance {
            process_id: guid.map_or_else(|| id_of_start(pid, at(start)), id_of_guid),
            started_at: at(start),
            ended_at: None,
            last_sign: at(start),
            start_observed: observed,
            guid,
            pid: Some(pid),
            image: Some(r"C:\x\a.exe".into()),
            command_line: None,
            original_file_name: None,
            company: None,
            product: None,
            description: None,
            sha256: None,
            user_name: None,
            integrity: None,
            session: None,
            parent_guid: None,
            parent_pid: None,
            parent_image: None,
            parent_command_line: None,
            group_key: 0,
            event_at: None,
            event_id: None,
        }
    }

    fn merged(starts: Vec<Instance>, mentions: Vec<Instance>) -> Vec<Instance> {
        merge(&[], News { starts, mentions, pids: BTreeSet::new() }, |_| true)
    }

    #[test]
    fn sysmon_and_security_starts_of_one_process_are_one_instance() {
        let rows = merged(vec![instance(None, 7, 100, true), instance(Some(1), 7, 101, true)], vec![]);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].guid, Some(ProcessGuid(uuid::Uuid::from_u128(1))));
    }

    #[test]
    fn a_reused_pid_is_another_instance_and_ends_the_first() {
        let rows = link(merged(vec![instance(Some(1), 7, 100, true), instance(Some(2), 7, 500, true)], vec![]), &[]);
        assert_eq!(rows.iter().map(|r| r.ended_at).collect::<Vec<_>>(), [Some(at(500)), None]);
    }

    #[test]
    fn a_sample_with_the_start_time_belongs_to_the_start_seen_by_another_source() {
        let rows = merged(vec![instance(Some(1), 7, 100, true)], vec![Instance { last_sign: at(900), ..instance(None, 7, 101, true) }]);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].last_sign, at(900));
    }

    #[test]
    fn a_sampler_with_another_clock_means_the_nearest_start_of_that_pid_and_image() {
        let sampled = || Instance { last_sign: at(9_000), ..instance(None, 7, 1_300, true) };
        let rows = merged(vec![instance(Some(1), 7, 1_000, true), instance(Some(2), 7, 9_500, true)], vec![sampled()]);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].last_sign, at(9_000));
        // The same when the sampler spoke first and its row is stored.
        let stored = Instance { start_observed: false, ..sampled() };
        let late = merge(&[stored], News { starts: vec![instance(Some(1), 7, 1_000, true)], mentions: vec![], pids: BTreeSet::new() }, |_| true);
        assert_eq!(late.len(), 1);
        assert_eq!(late[0].last_sign, at(9_000));
    }

    #[test]
    fn one_program_written_in_two_ways_is_one_row_whichever_was_heard_first() {
        let mention = |image: &str, at_: i64| Instance {
            process_id: id_of_mention(7, r"c:\x\a.exe"),
            image: Some(image.into()),
            last_sign: at(at_),
            ..instance(None, 7, at_, false)
        };
        for order in [[500, 100], [100, 500]] {
            let rows = merged(vec![], vec![mention(r"C:\x\a.exe", order[0]), mention(r"c:\X\A.EXE", order[1])]);
            assert_eq!(rows.len(), 1);
            assert_eq!((rows[0].started_at, rows[0].last_sign), (at(100), at(500)));
        }
    }

    #[test]
    fn an_end_belongs_to_the_latest_start_before_it() {
        let rows = merged(vec![instance(None, 7, 100, true), instance(None, 7, 500, true)], vec![]);
        let rows = link(rows, &[(7, None, at(300)), (7, None, at(800))]);
        assert_eq!(rows.iter().map(|r| r.ended_at).collect::<Vec<_>>(), [Some(at(300)), Some(at(800))]);
    }
}

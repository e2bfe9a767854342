//! The gates of both analytics: from class scores to a verdict, rows tried in order. Source: detection design, section 6.3.

use super::score::Scores;
use crate::model::{
    code::Class,
    detection::{Analytic, Band, Verdict},
};
use std::collections::BTreeSet;

/// What a gate looks at, at one point in time.
#[derive(Debug, Clone)]
pub struct View {
    /// Class scores.
    pub scores: Scores,
    /// Classes that the host's telemetry cannot show.
    pub unobservable: BTreeSet<Class>,
    /// A discriminator is active.
    pub discriminator: bool,
    /// Hard C or N evidence is active.
    pub hard_c_or_n: bool,
    /// N.IOC or N.STRATUM is active.
    pub pool: bool,
}

/// Classes among L, P, M, A that are met.
fn k(view: &View) -> usize {
    [Class::L, Class::P, Class::M, Class::A].into_iter().filter(|c| view.scores.met(*c)).count()
}

/// One condition of a row, with words for the nearest miss.
type Condition = (bool, String);

fn needs(view: &View, analytic: Analytic, points: f64) -> Condition {
    let missing = points - view.scores.total(analytic);
    (missing <= 0.0, format!("needs {missing:.1} more points"))
}

fn met(view: &View, class: Class) -> Condition {
    let (have, want) = (view.scores.get(class), class.minimum());
    (view.scores.met(class), format!("{class}: {have:.0} of {want:.0} points"))
}

/// Rows of an analytic in order: verdict and conditions that must all hold.
fn rows(view: &View, analytic: Analytic) -> Vec<(Verdict, Vec<Condition>)> {
    use Class::{C, L, M, N, P, R};
    let u = |class: Class| view.unobservable.contains(&class);
    let discriminator = || (view.discriminator, "needs one of: suspicious launch, masquerade, hard evidence".to_owned());
    let r_not_met = || (!u(R) && !view.scores.met(R), "R is met or cannot be observed".to_owned());
    let kinds = |n: usize| (k(view) >= n, format!("needs {} more of: launch, persistent connection, masquerade, auxiliary", n.saturating_sub(k(view))));
    let s = |points: f64| needs(view, analytic, points);
    match analytic {
        Analytic::An0741 => {
            let missing: Vec<Class> = [R, C, N].into_iter().filter(|c| u(*c)).collect();
            let others_met = [R, C, N].into_iter().filter(|c| !u(*c)).all(|c| view.scores.met(c));
            let (r_met, cn_met) = (view.scores.met(R), view.scores.met(C) || view.scores.met(N));
            vec![
                (Verdict::Alert, vec![met(view, R), met(view, C), met(view, N), s(50.0)]),
                (
                    Verdict::Partial,
                    vec![
                        (missing.len() == 1, "exactly one of R, C, N unobservable".to_owned()),
                        (others_met, "the observable ones of R, C, N must be met".to_owned()),
                        discriminator(),
                        s(45.0),
                    ],
                ),
                (
                    Verdict::EarlyWarning,
                    vec![
                        r_not_met(),
                        (view.scores.get(C) >= 25.0, format!("C: {:.0} of 25 points", view.scores.get(C))),
                        (view.scores.get(N) >= 30.0, format!("N: {:.0} of 30 points", view.scores.get(N))),
                        (view.hard_c_or_n, "needs hard evidence of C or N".to_owned()),
                        s(45.0),
                    ],
                ),
                (
                    Verdict::Candidate,
                    vec![
                        (
                            r_met && cn_met || u(R) && view.scores.met(C) && view.scores.met(N),
                            "needs load with a command or network class".to_owned(),
                        ),
                        s(40.0),
                    ],
                ),
            ]
        }
        Analytic::An1489 => {
            let strong = [L, P, M, Class::A].into_iter().any(|c| view.scores.get(c) >= 20.0);
            let blind = [L, P, M].into_iter().any(u);
            vec![
                (Verdict::Alert, vec![met(view, R), kinds(2), discriminator(), s(50.0)]),
                (
                    Verdict::Partial,
                    vec![
                        met(view, R),
                        (blind, "one of L, P, M unobservable".to_owned()),
                        (strong, "one of L, P, M, A at 20 points".to_owned()),
                        discriminator(),
                        s(45.0),
                    ],
                ),
                (Verdict::Partial, vec![(u(R), "R unobservable".to_owned()), kinds(2), discriminator(), s(45.0)]),
                (
                    Verdict::EarlyWarning,
                    vec![r_not_met(), (view.pool, "needs a listed or recognised pool".to_owned()), kinds(2), s(45.0)],
                ),
                (
                    Verdict::Candidate,
                    vec![
                        (
                            view.scores.met(R) && k(view) >= 1 || u(R) && k(view) >= 2,
                            "needs load with one of launch, persistent connection, masquerade, auxiliary".to_owned(),
                        ),
                        s(40.0),
                    ],
                ),
            ]
        }
    }
}

/// Whether too much is unobservable for any verdict.
fn blind(view: &View, analytic: Analytic) -> bool {
    use Class::{C, L, M, N, P, R};
    let u = |class: &Class| view.unobservable.contains(class);
    match analytic {
        Analytic::An0741 => [R, C, N].iter().filter(|c| u(c)).count() >= 2,
        Analytic::An1489 => [L, P, M].iter().all(u) || u(&R) && [L, P, M].iter().filter(|c| !u(c)).count() < 2,
    }
}

/// The verdict: the first row whose conditions all hold.
pub fn verdict(view: &View, analytic: Analytic) -> Verdict {
    let row = rows(view, analytic).into_iter().find(|(_, conditions)| conditions.iter().all(|c| c.0));
    match row {
        Some((verdict, _)) => verdict,
        None if blind(view, analytic) => Verdict::NotAssessable,
        None => Verdict::None,
    }
}

/// What is missing for the next better verdict: the row above the present one with the fewest failed conditions.
pub fn nearest_miss(view: &View, analytic: Analytic) -> Option<String> {
    let have = verdict(view, analytic);
    rows(view, analytic)
        .into_iter()
        .filter(|(verdict, _)| *verdict > have)
        .map(|(verdict, conditions)| {
            let failed: Vec<String> = conditions.into_iter().filter(|c| !c.0).map(|c| c.1).collect();
            (failed.len(), verdict, failed)
        })
        .min_by_key(|(n, verdict, _)| (*n, std::cmp::Reverse(*verdict)))
        .map(|(_, verdict, failed)| format!("for {verdict}: {}", failed.join("; ")))
}

/// How certain an alert is.
pub fn band(verdict: Verdict, score: f64) -> Option<Band> {
    (verdict == Verdict::Alert).then_some(match score {
        s if s >= 80.0 => Band::Strong,
        s if s >= 65.0 => Band::Probable,
        _ => Band::Tentative,
    })
}

#[cfg(test)]
mod tests {
    use super::super::case::{Instance, Item};
    use super::super::score::discriminates;
    use super::*;
    use crate::model::code::{Code, Force};

    fn view(codes: &[Code], unobservable: &[Class]) -> View {
        let items: Vec<Item> = codes.iter().map(|c| Item::for_life(*c, &Instance::default(), String::new())).collect();
        let scores = Scores::of(items.iter());
        View {
            discriminator: discriminates(items.iter(), &scores),
            unobservable: unobservable.iter().copied().collect(),
            hard_c_or_n: items.iter().any(|i| matches!(i.code.class(), Class::C | Class::N) && i.force == Force::Hard),
            pool: items.iter().any(|i| matches!(i.code, Code::NIoc | Code::NStratum)),
            scores,
        }
    }

    #[test]
    fn load_alone_is_nothing_for_either_analytic() {
        let v = view(&[Code::RPersistent, Code::RPlateau], &[]);
        assert_eq!(verdict(&v, Analytic::An0741), Verdict::None);
        assert_eq!(verdict(&v, Analytic::An1489), Verdict::None);
    }

    #[test]
    fn a_plain_miner_is_an_alert_of_an0741() {
        let v = view(&[Code::RPersistent, Code::CMinerFlag, Code::NIoc], &[]);
        assert_eq!(verdict(&v, Analytic::An0741), Verdict::Alert);
    }

    #[test]
    fn a_new_backup_agent_is_a_candidate_for_want_of_a_discriminator() {
        let v = view(&[Code::RPersistent, Code::LTask, Code::PLong30, Code::MUnsignedWritable], &[]);
        assert_eq!(verdict(&v, Analytic::An1489), Verdict::Candidate);
        assert!(nearest_miss(&v, Analytic::An1489).unwrap().contains("suspicious launch"));
    }

    #[test]
    fn a_known_pool_need_not_wait_for_the_load() {
        let v = view(&[Code::CMinerFlag, Code::NIoc], &[]);
        assert_eq!(verdict(&v, Analytic::An0741), Verdict::EarlyWarning);
    }

    #[test]
    fn a_blind_host_is_not_a_clean_one() {
        let v = view(&[], &[Class::R, Class::C]);
        assert_eq!(verdict(&v, Analytic::An0741), Verdict::NotAssessable);
        let v = view(&[Code::CMinerFlag, Code::NIoc, Code::PIoc], &[Class::R]);
        assert_eq!(verdict(&v, Analytic::An0741), Verdict::Partial);
    }
}

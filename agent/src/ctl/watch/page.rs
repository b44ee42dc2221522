//! What the live page holds: the newest picture, its curves, what is selected, and what a key does to that. Pure: draws nothing, asks
//! nobody, reads no clock.

use std::time::Duration;

use wa_core::time::Instant;

use super::super::render::clock_text;
use super::super::view::{add, exit_of};
use super::ask::{Answer, Rest, Told};
use super::keys::Key;
use crate::api::control::{ClusterStatus, DecisionStatus, Explanation, NodeStatus};
use crate::api::judged::Judged;
use crate::api::picture::curve::{self, Curves};
use crate::api::picture::{NodeState, by_machine};
use crate::exit::Exit;

/// A picture that is not older is live: it is asked for each second.
const LIVE_FOR: Duration = Duration::from_secs(3);
/// What a page key moves by.
const PAGE: isize = 10;

/// The parts of the page that have lines to select.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Panel {
    Nodes,
    Wrong,
    Shards,
    Decisions,
}

impl Panel {
    /// In the order of Tab.
    pub const ALL: [Self; 4] = [Self::Nodes, Self::Shards, Self::Wrong, Self::Decisions];

    fn after(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|panel| *panel == self);
        Self::ALL[(at.unwrap_or(0) + steps) % Self::ALL.len()]
    }
}

/// What is to be done after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Draw,
    Redraw,
    Suspend,
    End,
}

/// Whether what is shown is how things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fresh {
    /// Nobody has answered yet.
    First,
    Live,
    /// The answer has not come for so long.
    Slow(Duration),
    /// Nobody answers: why.
    Old(String),
    /// Held still.
    Paused,
}

/// Something that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub weight: Weight,
    pub says: String,
    /// What to type, or to do; empty where the sentence says it.
    pub remedy: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    Broken,
    Weak,
    /// A figure beyond its limit.
    Figure,
    Planned,
    Remark,
}

impl Weight {
    /// In front of the sentence: it says the same as the colour.
    pub fn word(self) -> &'static str {
        match self {
            Self::Broken => "BROKEN",
            Self::Weak => "WEAK",
            Self::Figure => "FIGURE",
            Self::Planned => "planned",
            Self::Remark => "remark",
        }
    }
}

/// A line that was chosen, and where it stood.
#[derive(Debug, Clone, Default)]
struct Mark {
    name: Option<String>,
    at: usize,
}

/// The cluster as it is shown.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub answer: Option<Answer>,
    pub rest: Rest,
    pub curves: Curves,
}

/// The whole page.
#[derive(Debug)]
pub struct Page {
    pub panel: Panel,
    pub help: bool,
    marks: [Mark; Panel::ALL.len()],
    live: Seen,
    /// What is shown instead, held still.
    held: Option<Box<Seen>>,
    /// An ask is under way since then.
    asking: Option<Instant>,
    /// Why the last ask came to nothing.
    silent: Option<String>,
    exit: Exit,
}

impl Page {
    pub fn new() -> Self {
        Self {
            panel: Panel::Nodes,
            help: false,
            marks: Default::default(),
            live: Seen::default(),
            held: None,
            asking: None,
            silent: None,
            exit: Exit::Unavailable,
        }
    }

    /// The exit code, by the last answer; and why it was none.
    pub fn end(self) -> (Exit, Option<String>) {
        (self.exit, self.silent)
    }

    /// What is shown.
    pub fn seen(&self) -> &Seen {
        self.held.as_deref().unwrap_or(&self.live)
    }

    /// Why nobody answers, also while the picture is held still.
    pub fn silent(&self) -> Option<&str> {
        self.silent.as_deref()
    }

    /// Whether what is shown is how things stand.
    pub fn fresh(&self, now: Instant) -> Fresh {
        if self.held.is_some() {
            return Fresh::Paused;
        }
        match (&self.live.answer, &self.silent) {
            (None, _) => Fresh::First,
            (Some(_), Some(why)) => Fresh::Old(why.clone()),
            (Some(answer), None) if now.since(answer.at) <= LIVE_FOR => Fresh::Live,
            (Some(answer), None) => {
                let since = self.asking.unwrap_or(answer.at);
                Fresh::Slow(now.since(since))
            }
        }
    }

    /// Takes what came; an error ends the page.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub fn take(&mut self, told: Told) -> anyhow::Result<()> {
        match told {
            Told::Asking(at) => self.asking = Some(at),
            Told::Status(answer) => {
                let mut answer = *answer;
                let measured = curve::measured(&answer.status);
                self.live.curves.take(answer.at, measured);
                let remarks = self.live.rest.remarks.iter().cloned();
                remarks.for_each(|remark| add(&mut answer.status, remark));
                self.exit = exit_of(&answer.status);
                self.live.answer = Some(answer);
                (self.asking, self.silent) = (None, None);
            }
            Told::Nothing(why, exit) => {
                self.exit = exit;
                (self.asking, self.silent) = (None, Some(why));
            }
            Told::Rest(rest) => self.live.rest = *rest,
            Told::Unusable(error) => return Err(error),
        }
        Ok(())
    }

    /// Does what a key asks for.
    pub fn press(&mut self, key: Key) -> Next {
        let helped = std::mem::take(&mut self.help);
        match key {
            Key::Up => self.step(-1),
            Key::Down => self.step(1),
            Key::PageUp => self.step(-PAGE),
            Key::PageDown => self.step(PAGE),
            Key::First => self.step(isize::MIN),
            Key::Last => self.step(isize::MAX),
            Key::Next => self.panel = self.panel.after(1),
            Key::Before => self.panel = self.panel.after(Panel::ALL.len() - 1),
            Key::Help => self.help = !helped,
            Key::Pause => {
                self.held = match self.held.take() {
                    Some(_) => None,
                    None => Some(Box::new(self.live.clone())),
                }
            }
            Key::Leave if helped => {}
            Key::Leave | Key::End => return Next::End,
            Key::Suspend => return Next::Suspend,
            Key::Redraw => return Next::Redraw,
        }
        Next::Draw
    }

    fn step(&mut self, by: isize) {
        let names = self.seen().names(self.panel);
        let Some(last) = names.len().checked_sub(1) else {
            return;
        };
        let at = self.at(self.panel).saturating_add_signed(by).min(last);
        self.marks[self.panel as usize] = Mark {
            name: names.get(at).cloned(),
            at,
        };
    }

    /// Which line of a panel is selected. A line that has gone leaves its place to the next.
    pub fn at(&self, panel: Panel) -> usize {
        let seen = self.seen();
        let names = seen.names(panel);
        let mark = &self.marks[panel as usize];
        match &mark.name {
            Some(name) => {
                let found = names.iter().position(|other| other == name);
                found.unwrap_or(mark.at.min(names.len().saturating_sub(1)))
            }
            None => seen.first(panel),
        }
    }

    /// The node whose death is told.
    pub fn node(&self) -> Option<&NodeStatus> {
        self.seen().nodes().get(self.at(Panel::Nodes)).copied()
    }
}

impl Seen {
    pub fn status(&self) -> Option<&ClusterStatus> {
        self.answer.as_ref().map(|answer| &answer.status)
    }

    /// When the picture came, for people.
    pub fn of(&self) -> Option<String> {
        let answer = self.answer.as_ref()?;
        Some(clock_text(answer.wall_ms / 1000))
    }

    /// By machine.
    pub fn nodes(&self) -> Vec<&NodeStatus> {
        let machines = self.status().map(|status| by_machine(&status.nodes));
        machines.into_iter().flatten().flat_map(|of| of.1).collect()
    }

    /// The newest first.
    pub fn decisions(&self) -> Vec<&DecisionStatus> {
        let status = self.status().into_iter();
        status
            .flat_map(|status| status.decisions.iter().rev())
            .collect()
    }

    /// Explanations that fit the status: an older one would name as successor who owns the shard by now, or is silent.
    pub fn explained(&self) -> Vec<Explanation> {
        let Some(status) = self.status() else {
            return Vec::new();
        };
        let up = |name: &String| {
            let mut nodes = status.nodes.iter();
            nodes.any(|node| node.node == *name && node.healthy)
        };
        let fits = |of: &&Explanation| {
            let same = status.shards.iter().any(|shard| {
                (shard.shard, shard.epoch, &shard.owner) == (of.shard, of.epoch, &of.owner)
            });
            same && of.successor.as_ref().is_none_or(up)
        };
        self.rest.explained.iter().filter(fits).cloned().collect()
    }

    /// What is wrong first.
    pub fn items(&self) -> Vec<Item> {
        let Some(status) = self.status() else {
            return Vec::new();
        };
        let judged = |one: &Judged| Item {
            weight: match (one.broken(), one.wrong()) {
                (true, _) => Weight::Broken,
                (false, true) => Weight::Weak,
                (false, false) => Weight::Remark,
            },
            says: one.says.clone(),
            remedy: one.remedy.clone(),
        };
        let (wrong, remarks): (Vec<&Judged>, _) = status.judged.iter().partition(|of| of.wrong());
        let figures = status.other_alarms().map(|alarm| Item {
            weight: Weight::Figure,
            says: format!(
                "{} {} ({} is {})",
                alarm.says, alarm.means, alarm.figure, alarm.value
            ),
            remedy: alarm.remedy.clone(),
        });
        let planned = status.planned.iter().map(|one| {
            let to = one.to.as_deref().unwrap_or("whoever is best then");
            Item {
                weight: Weight::Planned,
                says: format!(
                    "Shard {} moves to {to} at {}.",
                    one.shard,
                    moment(one.at_ms)
                ),
                remedy: format!("wa-agent switchover --shard {} --cancel", one.shard),
            }
        });
        let all = wrong.into_iter().map(judged).chain(figures).chain(planned);
        let mut all: Vec<Item> = all.chain(remarks.into_iter().map(judged)).collect();
        all.extend(of_older(status));
        all.sort_by_key(|item| item.weight);
        all
    }

    /// What a line is known by, also when others come and go.
    fn names(&self, panel: Panel) -> Vec<String> {
        match panel {
            Panel::Nodes => self.nodes().iter().map(|node| node.node.clone()).collect(),
            Panel::Shards => {
                let shards = self.status().map_or(&[][..], |status| &status.shards);
                shards.iter().map(|shard| shard.shard.to_string()).collect()
            }
            Panel::Wrong => self.items().into_iter().map(|item| item.says).collect(),
            Panel::Decisions => {
                let named =
                    |of: &&DecisionStatus| format!("{} {} {:?}", of.at_unix_s, of.what, of.shard);
                self.decisions().iter().map(named).collect()
            }
        }
    }

    /// What is selected before somebody selects: of the nodes, one that owns.
    fn first(&self, panel: Panel) -> usize {
        let (Panel::Nodes, Some(status)) = (panel, self.status()) else {
            return 0;
        };
        let mut nodes = self.nodes().into_iter();
        let owns = |node| matches!(NodeState::of(status, node), NodeState::Owner(_));
        nodes.position(owns).unwrap_or(0)
    }
}

fn moment(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).map(jiff::Timestamp::from_millisecond);
    match at {
        Ok(Ok(at)) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Ok(Err(_)) | Err(_) => "a time beyond all calendars".to_owned(),
    }
}

/// A master of an older release tells sentences only.
fn of_older(status: &ClusterStatus) -> Vec<Item> {
    let known = |line: &&String| status.judged.iter().all(|judged| judged.line() != **line);
    let lines = status.problems.iter().filter(known);
    lines
        .map(|line| Item {
            weight: Weight::Weak,
            says: line.clone(),
            remedy: String::new(),
        })
        .collect()
}

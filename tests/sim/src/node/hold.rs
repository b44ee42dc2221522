//! What holds messages of a tenure, as `agent/src/coreapp/hold.rs` does it: questions about the number, and their answers.
//! Decides nothing: `wa_core::hold` does.

use wa_core::hold::{self, Action, Event};
use wa_core::id::Grant;
use wa_core::time::Duration;

use crate::world::{MS, Sim, What};

impl Sim {
    /// What holds messages takes note of an event; questions go out, and their answers come back or not.
    pub(crate) fn look_at_hold(&mut self, node: usize, event: Event) {
        let now = self.local(node);
        let Some(work) = self.nodes[node].work.as_deref_mut() else {
            return;
        };
        let mut actions = Vec::new();
        work.hold.step(now, event, &mut actions);
        let grant = work.own.grant;
        for action in actions {
            match action {
                Action::Probe => {
                    self.count("messages: question about the number");
                    // One in so many gets no answer.
                    if self.dice(12) != 0 {
                        let way = (2 + self.dice(60)) * MS;
                        self.push_traffic(way, node, What::Probed(grant));
                    }
                }
                Action::Tell(why) => {
                    self.count(&format!("messages: held, {}", why.as_str()));
                    self.tell(format!("messages are held: {}", why.says()));
                }
                Action::TellAgain(why) => {
                    self.tell(format!("messages go on again after: {}", why.says()));
                }
            }
        }
    }

    /// The answer to a question about the number.
    pub(crate) fn probed(&mut self, node: usize, grant: Grant) {
        let probe = self.web.probed(self.now / MS);
        let asked = self.nodes[node].work.as_deref();
        if asked.is_some_and(|work| work.own.grant == grant) {
            self.look_at_hold(node, Event::Probed(probe));
        }
    }
}

/// Pauses of a hold: a fiftieth of the product's.
pub fn held_for() -> hold::Config {
    let ms = Duration::from_millis;
    hold::Config {
        first: ms(100),
        longest: ms(1200),
        asked_for: ms(600),
        payment_first: ms(600),
        payment_longest: ms(2400),
        ..hold::Config::default()
    }
}

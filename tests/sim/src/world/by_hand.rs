//! What scenarios and tests do with a world by hand, step by step.
//! Draws nothing.

use wa_core::id::Incarnation;
use wa_core::master;

use super::{MS, Sim, What};

impl Sim {
    /// Lets time pass up to `until`.
    pub fn run_until(&mut self, until_ms: u64) -> Result<(), String> {
        while self
            .queue
            .first_key_value()
            .is_some_and(|((at, _), _)| *at < until_ms * MS)
        {
            self.one_event()?;
        }
        self.now = until_ms * MS;
        Ok(())
    }

    /// A line of the script, as part of the story.
    pub fn note(&mut self, text: &str) {
        self.tell(format!("> {text}"));
        // What is asked again after something new happened is told again.
        self.said.clear();
    }

    /// Starts a process.
    pub fn begin(&mut self, node: usize) {
        self.push(0, node, What::Start);
    }

    /// Kills a process; its supervisor starts it again after so many ms, if at all.
    pub fn kill(&mut self, node: usize, restart_ms: Option<u64>) {
        self.crash(node, restart_ms);
    }

    /// Hands an event to one master, whoever may have sent it.
    pub fn tell_master(&mut self, master: usize, event: master::Event) {
        self.push(0, master, What::Master(event));
    }

    /// The newest start of a node.
    pub fn incarnation(&self, node: usize) -> Incarnation {
        self.nodes[node].incarnation
    }
}

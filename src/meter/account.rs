use std::sync::Arc;

use crate::azure::estimate::Text;
use crate::azure::usage::{Reported, Usage};
use crate::context::{Client, Route, Spending, UsageSource};
use crate::pool::Target;

use super::layer::{OnUsage, State};
use super::plan::Plan;

/// A usage that was counted, and whose it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metered<'a> {
    /// Who used it, if that is known.
    pub client: Option<&'a Client>,
    /// What was asked for.
    pub route: &'a Route,
    /// Who served it, if selection took part.
    pub target: Option<&'a Target>,
    /// Tokens and seconds that were used.
    pub usage: Usage,
    /// How that is known.
    pub source: UsageSource,
}

/// What one answer used, as far as it has passed; counted once, at the latest when this is dropped.
pub(super) struct Account {
    plan: Plan,
    client: Option<Client>,
    target: Option<Target>,
    spending: Option<Spending>,
    on_usage: Option<OnUsage>,
    state: Arc<State>,
    told: Usage,
    written: Text,
    events: u64,
    is_counted: bool,
}

impl Account {
    pub(super) fn new(
        plan: Plan,
        client: Option<Client>,
        spending: Option<Spending>,
        on_usage: Option<OnUsage>,
        state: Arc<State>,
    ) -> Self {
        let (told, written) = (Usage::default(), Text::default());
        Self { plan, client, target: None, spending, on_usage, state, told, written, events: 0, is_counted: false }
    }

    pub(super) fn served_by(&mut self, target: Option<Target>) {
        self.target = target;
    }

    /// Tells whether what is told is to be taken out of the stream again.
    pub(super) const fn asks(&self) -> bool {
        self.plan.asks
    }

    /// Tells whether the text that passes matters.
    pub(super) const fn reads_text(&self) -> bool {
        self.plan.is_silent && !self.is_counted
    }

    /// Notes a part of a stream that is to tell at its end: should its client leave before, each counts as a token.
    pub(super) const fn pass_unread(&mut self) {
        self.events += 1;
    }

    /// Notes what an event added to the answer.
    pub(super) fn write(&mut self, text: Text) {
        self.events += u64::from(!text.is_empty());
        self.written += text;
    }

    /// Takes what the answer tells of itself; nothing more of it is to be expected when `is_last`.
    pub(super) fn tell(&mut self, reported: &Reported, is_last: bool) {
        let counts = match &reported.object {
            Some(object) => (self.plan.makes || object.is_in_background) && self.state.is_new(&object.id),
            None => self.plan.makes,
        };
        if !counts {
            return;
        }
        self.told = self.told.grown_to(reported.usage);
        if is_last {
            self.count(self.told, UsageSource::Reported);
        } else if let Some(spending) = &self.spending {
            spending.tell(self.told, UsageSource::Reported, false);
        }
    }

    /// Counts what is known at the end of a stream, or when its client leaves.
    pub(super) fn end_stream(&mut self) {
        if self.is_counted {
            return;
        }
        if !self.told.is_nothing() {
            self.count(self.told, UsageSource::Reported);
        } else if let Some(prompt) = self.plan.prompt.filter(|_| self.plan.makes && self.events > 0) {
            let correct = |tokens| self.state.ratios.correct(self.plan.route.alias(), tokens);
            let output = correct(self.written.tokens()).max(self.events);
            let usage = Usage { input: correct(prompt.tokens()), output, ..Usage::default() };
            self.count(usage, UsageSource::Estimated);
        }
    }

    fn count(&mut self, usage: Usage, source: UsageSource) {
        if std::mem::replace(&mut self.is_counted, true) {
            return;
        }
        if let (UsageSource::Reported, Some(prompt), Some(alias)) = (source, self.plan.prompt, self.plan.route.alias())
        {
            self.state.ratios.learn(alias, usage.input, prompt.tokens());
        }
        if let Some(spending) = &self.spending {
            spending.tell(usage, source, true);
        }
        if let Some(record) = &self.on_usage {
            let (client, route, target) = (self.client.as_ref(), &self.plan.route, self.target.as_ref());
            record(&Metered { client, route, target, usage, source });
        }
    }
}

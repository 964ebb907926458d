use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::azure::estimate::Text;
use crate::azure::usage::{Reported, Usage};
use crate::context::{Client, Route, Spending, UsageSource};
use crate::directory::ObjectKey;
use crate::pool::{BoxFuture, Target};

use tokio::runtime::Handle;

use super::layer::{OnUsage, State};
use super::plan::Plan;

/// A usage that was counted, and whose it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metered<'a> {
    /// Client that used it, if that is known.
    pub client: Option<&'a Client>,
    /// Route that was asked for.
    pub route: &'a Route,
    /// Target that served it, if selection took part.
    pub target: Option<&'a Target>,
    /// Tokens and seconds that were used.
    pub usage: Usage,
    /// Source of the figures.
    pub source: UsageSource,
    /// True if the [`Record`](crate::context::Record) of the request tells it too. That of a WebSocket is given before anything
    /// is said there.
    pub is_on_record: bool,
}

/// Usage of one answer, as far as it has passed; counted once, at the latest when this is dropped.
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
    /// Waits for whether somebody else has counted what is to be counted, and whether nothing more is to be expected.
    claim: Option<(BoxFuture<bool>, Usage, bool)>,
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
        Self {
            plan,
            client,
            target: None,
            spending,
            on_usage,
            state,
            told,
            written,
            events: 0,
            is_counted: false,
            claim: None,
        }
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
            Some(object) => (self.plan.makes || object.is_in_background) && self.state.is_new(object.id()),
            None => self.plan.makes,
        };
        if !counts {
            return;
        }
        if let (Some(once), Some(object)) = (&self.state.once, &reported.object)
            && object.is_in_background
        {
            let is_first = once.is_first(ObjectKey::of(object.id()));
            self.finish_claim();
            self.claim = Some((is_first, reported.usage, is_last));
            return;
        }
        self.take(reported.usage, is_last);
    }

    /// Tells whether it is still to be found out who counts what was told.
    pub(super) const fn waits(&self) -> bool {
        self.claim.is_some()
    }

    /// Resolves when what was told is counted, or was by somebody else.
    pub(super) fn poll_claim(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((claim, usage, is_last)) = &mut self.claim else { return Poll::Ready(()) };
        let is_first = ready!(claim.as_mut().poll(cx));
        let (usage, is_last) = (*usage, *is_last);
        self.claim = None;
        if is_first {
            self.take(usage, is_last);
        } else {
            self.is_counted = true;
        }
        Poll::Ready(())
    }

    fn take(&mut self, usage: Usage, is_last: bool) {
        if self.plan.is_session() {
            self.told += usage;
            self.record(usage, UsageSource::Reported);
            if let Some(spending) = &self.spending {
                spending.tell(self.told, UsageSource::Reported, false);
            }
            return;
        }
        self.told = self.told.grown_to(usage);
        if is_last {
            self.count(self.told, UsageSource::Reported);
        } else if let Some(spending) = &self.spending {
            spending.tell(self.told, UsageSource::Reported, false);
        }
    }

    /// Goes on finding out although nobody waits for the answer any more.
    pub(super) fn finish_claim(&mut self) {
        let Some((claim, usage, _)) = self.claim.take() else { return };
        self.is_counted = true;
        let Ok(runtime) = Handle::try_current() else { return };
        let (plan, client, target) = (self.plan.clone(), self.client.clone(), self.target.clone());
        let record = self.on_usage.clone();
        runtime.spawn(async move {
            if let (true, Some(record)) = (claim.await, record) {
                let (client, route, target, source) =
                    (client.as_ref(), &plan.route, target.as_ref(), UsageSource::Reported);
                // The record of the request is given by now.
                record(&Metered { client, route, target, usage, source, is_on_record: false });
            }
        });
    }

    /// Counts what is known at the end of a stream, or when its client leaves.
    pub(super) fn end_stream(&mut self) {
        if self.is_counted || self.plan.is_session() || self.waits() {
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
        self.record(usage, source);
    }

    fn record(&self, usage: Usage, source: UsageSource) {
        if let Some(record) = &self.on_usage {
            let (client, route, target) = (self.client.as_ref(), &self.plan.route, self.target.as_ref());
            record(&Metered { client, route, target, usage, source, is_on_record: !self.plan.is_socket });
        }
    }
}

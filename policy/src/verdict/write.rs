//! The headers with which a request goes on: where to, why, and what the upstream is told.

use std::io::Write;

use super::{Choice, MINTED_LENGTH, Routed, UnitSeen};
use crate::baggage;
use crate::headers::Single;
use crate::plan::RewritePart;
use crate::plan::VerificationPlan;
use crate::request::{Field, Request, header};
use crate::switches::FeatureSwitch;
use crate::terms::{ColorSource, Metadata};

/// The baggage member that carries the color.
pub(crate) const BAGGAGE_KEY: &[u8] = b"traffic-color";
/// The cookie of a minted unit.
pub(crate) const MINT_COOKIE: &str = "ombre_uid";

/// A change of the request's headers. Names are in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// The header gets this value, whatever it had.
    Set(&'a str, &'a [u8]),
    /// The header goes away.
    Remove(&'a str),
}

impl Routed<'_> {
    /// Performs every change that sends this request on its way.
    pub fn write(&mut self, mut edit: impl FnMut(Edit<'_>)) {
        self.write_cluster(&mut edit);
        self.write_decision(&mut edit);
        self.write_color(&mut edit);
        self.write_metadata(&mut edit);
        if !self.cohorts.is_empty() {
            self.write_cohorts(&mut edit);
        }
        if let UnitSeen::Minted(unit) = self.choice.unit {
            self.write_cookie(unit, &mut edit);
        }
        if self.route.rewrites.is_some() {
            self.write_path(&mut edit);
        }
        self.remove_token(&mut edit);
    }

    /// Most requests go where the listener has sent them already.
    fn write_cluster(&self, edit: &mut impl FnMut(Edit<'_>)) {
        let cluster = self.choice.serving.cluster.as_bytes();
        if self.request.single(Field::Cluster) != Single::One(cluster) {
            edit(Edit::Set(header::CLUSTER, cluster));
        }
    }

    /// `route=checkout-api;version=v2;reason=rollout`, and `;degraded=v2` where v2 was meant.
    fn write_decision(&mut self, edit: &mut impl FnMut(Edit<'_>)) {
        let Choice {
            serving,
            reason,
            degraded,
            ..
        } = &self.choice;
        self.buffer.clear();
        put(self.buffer, &["route=", self.plan.route_name(self.route)]);
        put(
            self.buffer,
            &[";version=", &serving.name, ";reason=", reason.name()],
        );
        if let Some(degraded) = degraded {
            put(self.buffer, &[";degraded=", &degraded.name]);
        }
        edit(Edit::Set(header::DECISION, self.buffer));
    }

    /// Written only where the request does not say it already.
    fn write_color(&mut self, edit: &mut impl FnMut(Edit<'_>)) {
        let seen = self.choice.color;
        let color = seen.color.as_str().as_bytes();
        if seen.source != Some(ColorSource::Header) {
            edit(Edit::Set(header::COLOR, color));
        }
        edit(Edit::Set(header::TAG, color));
        let carried = match seen.source {
            Some(ColorSource::Baggage) => true,
            None => !self.claims_color(),
            Some(_) => false,
        };
        if !carried && self.switches.has(FeatureSwitch::Baggage) {
            self.write_baggage(edit);
        }
    }

    /// A color in the baggage that was not to be believed would be believed at the next hop.
    fn claims_color(&self) -> bool {
        let mut all = self.request.all(Field::Baggage);
        all.any(|value| baggage::get(value, BAGGAGE_KEY).is_some())
    }

    #[inline(never)]
    fn write_baggage(&mut self, edit: &mut impl FnMut(Edit<'_>)) {
        let color = self.choice.color.color.as_str().as_bytes();
        let existing = self.request.all(Field::Baggage);
        baggage::merge(existing, BAGGAGE_KEY, color, self.buffer);
        edit(Edit::Set(header::BAGGAGE, self.buffer));
    }

    /// A client's own claim about what serves it does not go on as if it were ours.
    fn write_metadata(&mut self, edit: &mut impl FnMut(Edit<'_>)) {
        if !self.switches.has(FeatureSwitch::Metadata) {
            return;
        }
        let metadata = &self.choice.serving.metadata;
        for (name, value) in metadata {
            edit(Edit::Set(name.header(), value.as_bytes()));
        }
        let claims = [
            (Metadata::Version, self.request.has(Field::Version)),
            (Metadata::Stage, self.request.has(Field::ClaimedStage)),
            (Metadata::BuildId, self.request.has(Field::ClaimedBuild)),
        ];
        for (name, claimed) in claims {
            if claimed && !metadata.iter().any(|(known, _)| *known == name) {
                edit(Edit::Remove(name.header()));
            }
        }
    }

    /// Requests without a unit get the default group's features, but do not count as the group's.
    #[inline(never)]
    fn write_cohorts(&mut self, edit: &mut impl FnMut(Edit<'_>)) {
        self.buffer.clear();
        for cohort in self.cohorts.iter().filter(|cohort| cohort.slot.is_some()) {
            if let Some(group) = self.service.group(cohort) {
                separate(self.buffer, 0);
                put(self.buffer, &[&group.label]);
            }
        }
        if !self.buffer.is_empty() {
            edit(Edit::Set(header::GROUP, self.buffer));
        }
        self.buffer.clear();
        put(self.buffer, &["{"]);
        let groups = self.cohorts.iter();
        let groups = groups.filter_map(|cohort| self.service.group(cohort));
        for group in groups.filter(|group| !group.features.is_empty()) {
            separate(self.buffer, 1);
            put(self.buffer, &[&group.features]);
        }
        if self.buffer.len() > 1 {
            put(self.buffer, &["}"]);
            edit(Edit::Set(header::FEATURES, self.buffer));
        }
    }

    #[inline(never)]
    fn write_cookie(&mut self, unit: [u8; MINTED_LENGTH], edit: &mut impl FnMut(Edit<'_>)) {
        self.buffer.clear();
        put(self.buffer, &[MINT_COOKIE, "="]);
        self.buffer.extend_from_slice(&unit);
        put(self.buffer, &["; Max-Age="]);
        // Writing to memory cannot fail.
        let _ = write!(self.buffer, "{}", self.service.mint_lifetime);
        put(self.buffer, &["; Path=/; HttpOnly; SameSite=Lax"]);
        if self.request.first(Field::Proto) == b"https" {
            put(self.buffer, &["; Secure"]);
        }
        edit(Edit::Set(header::SET_COOKIE, self.buffer));
    }

    #[inline(never)]
    fn write_path(&mut self, edit: &mut impl FnMut(Edit<'_>)) {
        let Some(parts) = self.route.rewrite_for(self.choice.version) else {
            return;
        };
        self.buffer.clear();
        for part in parts {
            match part {
                RewritePart::Literal(text) => put(self.buffer, &[text]),
                RewritePart::Path => self.buffer.extend_from_slice(self.request.path),
                RewritePart::Segment(at) => {
                    self.buffer
                        .extend_from_slice(raw_segments(&self.request, *at, false));
                }
                RewritePart::Rest(at) => {
                    self.buffer
                        .extend_from_slice(raw_segments(&self.request, *at, true));
                }
            }
        }
        let target = self.request.first(Field::Target);
        let query = target.get(self.request.path.len()..);
        self.buffer.extend_from_slice(query.unwrap_or_default());
        edit(Edit::Set(header::ORIGINAL_PATH, target));
        edit(Edit::Set(header::PATH, self.buffer));
    }

    /// Upstreams and their logs need not know the token, whether it opened anything or not.
    fn remove_token(&self, edit: &mut impl FnMut(Edit<'_>)) {
        if let VerificationPlan::Token { header, .. } = &self.service.verification
            && self.request.headers.single(header.as_bytes()) != Single::Absent
        {
            edit(Edit::Remove(header));
        }
    }
}

fn put(buffer: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        buffer.extend_from_slice(piece.as_bytes());
    }
}

/// A comma, unless the list that starts at `from` is still empty.
fn separate(buffer: &mut Vec<u8>, from: usize) {
    if buffer.len() > from {
        buffer.push(b',');
    }
}

/// A segment as the client wrote it, alone or with everything behind it.
fn raw_segments<'a>(request: &Request<'a>, at: u8, with_rest: bool) -> &'a [u8] {
    let mut rest = request.path.strip_prefix(b"/").unwrap_or(request.path);
    for _ in 0..at {
        let slash = rest.iter().position(|byte| *byte == b'/');
        rest = slash
            .and_then(|slash| rest.get(slash.saturating_add(1)..))
            .unwrap_or_default();
    }
    if with_rest {
        return rest;
    }
    rest.split(|byte| *byte == b'/').next().unwrap_or_default()
}

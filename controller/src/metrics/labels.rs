//! The labels: words in lower case, as the docs and everybody's alerts have them.

use std::fmt;

use ombre_policy::document::Kind;
use ombre_policy::release::breaker::Refreshed;
use ombre_policy::release::machine::Command;
use ombre_xds::snapshot::Type;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::engine::OrderError;

/// A label with all of its words.
macro_rules! label {
    ($(#[$note:meta])* $access:vis $label:ident { $($(#[$doc:meta])* $variant:ident => $word:literal),+ $(,)? }) => {
        $(#[$note])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $access enum $label {
            $($(#[$doc])* $variant),+
        }

        impl $label {
            pub(super) const ALL: &[Self] = &[$(Self::$variant),+];
        }

        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                match self { $(Self::$variant => $word),+ }.encode(encoder)
            }
        }
    };
}

/// The labels of a metric.
macro_rules! labels {
    ($($labels:ident { $($name:ident: $of:ty),+ })+) => {
        $(
            #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
            pub(super) struct $labels {
                $(pub(super) $name: $of),+
            }
        )+
    };
}

label! {
    /// What became of a load.
    pub Load {
        /// In force.
        Accepted => "accepted",
        /// Nothing that filters could tell apart.
        Unchanged => "unchanged",
        /// The last good policy stays.
        Refused => "refused",
    }
}

label! {
    /// How a long poll ended.
    pub Poll {
        /// With a document.
        Delivered => "delivered",
        /// With nothing new.
        NothingNew => "nothing_new",
        /// Not begun: the certificate is not that of the node.
        Refused => "refused",
    }
}

label! {
    /// What was said on an xDS stream.
    pub Xds {
        /// Resources were sent.
        Push => "push",
        /// They were accepted.
        Ack => "ack",
        /// They were refused.
        Nack => "nack",
    }
}

label! {
    /// What became of an order.
    pub Ordered {
        /// It was followed.
        Followed => "followed",
        /// There is no such release, or it is not in a state for it.
        Refused => "refused",
        /// It could not be kept, or nobody is there to follow it.
        Failed => "failed",
    }
}

label! {
    /// What became of news for a webhook.
    pub Delivery {
        /// It took them.
        Taken => "taken",
        /// It did not, however often they were sent.
        GivenUp => "given_up",
        /// It was too slow, and they were never sent.
        Missed => "missed",
    }
}

label! {
    pub(super) KindLabel { Policy => "policy", Decisions => "decisions" }
}

label! {
    pub(super) UpdateLabel { Begun => "begun", Removed => "removed", Dropped => "dropped" }
}

label! {
    pub(super) CommandLabel {
        Promote => "promote",
        Pause => "pause",
        Resume => "resume",
        Rollback => "rollback",
        SetWeight => "set_weight",
        Unlock => "unlock",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TypeLabel(pub(super) Type);

labels! {
    LoadLabels { result: Load }
    SaveLabels { ok: bool }
    PollLabels { kind: KindLabel, result: Poll }
    XdsLabels { resource: TypeLabel, message: Xds }
    UpdateLabels { result: UpdateLabel }
    OrderLabels { command: CommandLabel, result: Ordered }
    WebhookLabels { webhook: String, result: Delivery }
}

impl EncodeLabelValue for TypeLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.short().encode(encoder)
    }
}

impl From<Kind> for KindLabel {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Policy => Self::Policy,
            Kind::Decisions => Self::Decisions,
        }
    }
}

impl From<Refreshed> for UpdateLabel {
    fn from(refreshed: Refreshed) -> Self {
        match refreshed {
            Refreshed::Begun => Self::Begun,
            Refreshed::Removed => Self::Removed,
            Refreshed::Dropped => Self::Dropped,
        }
    }
}

impl From<Command> for CommandLabel {
    fn from(command: Command) -> Self {
        match command {
            Command::Promote => Self::Promote,
            Command::Pause => Self::Pause,
            Command::Resume => Self::Resume,
            Command::Rollback { .. } => Self::Rollback,
            Command::SetWeight(_) => Self::SetWeight,
            Command::Unlock => Self::Unlock,
        }
    }
}

impl From<&Result<(), OrderError>> for Ordered {
    fn from(result: &Result<(), OrderError>) -> Self {
        match result {
            Ok(()) => Self::Followed,
            Err(OrderError::NoRelease(_) | OrderError::Refused(_)) => Self::Refused,
            Err(OrderError::Store(_) | OrderError::Stopped) => Self::Failed,
        }
    }
}

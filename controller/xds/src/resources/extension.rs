//! ECDS: the filter, with the policy and the decisions as its configuration.

use envoy_types::pb::envoy::config::core::v3::async_data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, BackoffStrategy, TypedExtensionConfig,
};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config::Vm;
use envoy_types::pb::envoy::extensions::wasm::v3::{
    EnvironmentVariables, FailurePolicy, PluginConfig, ReloadConfig, VmConfig,
};
use envoy_types::pb::google::protobuf::BytesValue;
use envoy_types::util::pack_any;
use ombre_policy::duration::Millis;

use super::Extension;
use super::proto::{duration, file};

/// The filter's name in listeners, and the resource's.
pub(super) const NAME: &str = "ombre";

/// Between two deaths of a VM.
const BACKOFF: Millis = Millis::new(20);

pub(super) fn message(extension: &Extension) -> TypedExtensionConfig {
    let plugin = PluginConfig {
        name: NAME.to_owned(),
        root_id: "worker".to_owned(),
        configuration: Some(pack_any(BytesValue {
            value: extension.configuration.clone(),
        })),
        // Should a VM ever die, the next request gets a new one.
        failure_policy: FailurePolicy::FailReload.into(),
        reload_config: Some(ReloadConfig {
            backoff: Some(BackoffStrategy {
                base_interval: Some(duration(BACKOFF)),
                ..BackoffStrategy::default()
            }),
        }),
        vm: Some(Vm::VmConfig(vm(&extension.wasm))),
        ..PluginConfig::default()
    };
    TypedExtensionConfig {
        name: NAME.to_owned(),
        typed_config: Some(pack_any(Wasm {
            config: Some(plugin),
        })),
    }
}

/// The same for every policy, so that a new one needs no new VM.
fn vm(wasm: &str) -> VmConfig {
    let keys = ["ROUTE_VERSION", "ROUTE_FEATURES", "DISABLE_ROUTES"];
    VmConfig {
        vm_id: NAME.to_owned(),
        runtime: "envoy.wasm.runtime.v8".to_owned(),
        code: Some(AsyncDataSource {
            specifier: Some(Specifier::Local(file(wasm))),
        }),
        environment_variables: Some(EnvironmentVariables {
            host_env_keys: keys.map(str::to_owned).into(),
            ..EnvironmentVariables::default()
        }),
        ..VmConfig::default()
    }
}

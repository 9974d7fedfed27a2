//! An external processor that decides as ombre does, by the same code run natively: the server of the
//! case `ext_proc`, in a process of its own, so that its time is known and is not Envoy's. One thread
//! is enough for the few requests that are under way at a time, and costs least.

use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HeaderMutation, HeadersResponse, HttpHeaders, ProcessingRequest,
    ProcessingResponse, processing_request, processing_response,
};
use futures_util::stream::{Once, once};
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::verdict::{Edit, Verdict};
use ombre_tests::ports::Port;
use ombre_tests::process::{Group, Process};
use tokio::runtime;
use tonic::{Request, Response, Status, Streaming};

use super::{delivery, policies};

/// How this program is told to be one.
const COMMAND: &str = "processor";

/// Decides by the demo policy.
struct Processor(Mutex<InForce>);

/// One answer, since only request headers are sent. It ends the stream: Envoy gets all of it at once.
type Answer = Once<Ready<Result<ProcessingResponse, Status>>>;

/// Starts one; it serves as soon as it can be connected to.
pub(crate) fn start(dir: &Path) -> Result<(Process, Port)> {
    let port = Port::free()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args([COMMAND, &port.address().to_string()]);
    let log = dir.join("processor.log");
    let process = Process::start("the processor", command, &log, Group::Shared)?;
    Ok((process, port))
}

/// Serves until the process is ended.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let mut in_force = InForce::default();
    in_force.take(&delivery::sealed(policies::demo()?)?)?;
    let service = ExternalProcessorServer::new(Processor(Mutex::new(in_force)));
    let server = tonic::transport::Server::builder().add_service(service);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(server.serve(address))?;
    Ok(())
}

#[tonic::async_trait]
impl ExternalProcessor for Processor {
    type ProcessStream = Answer;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Answer>, Status> {
        let message = request.into_inner().message().await?;
        let Some(processing_request::Request::RequestHeaders(headers)) =
            message.and_then(|message| message.request)
        else {
            return Err(Status::invalid_argument("not the headers of a request"));
        };
        Ok(Response::new(once(ready(self.answer(&headers)))))
    }
}

impl Processor {
    fn answer(&self, headers: &HttpHeaders) -> Result<ProcessingResponse, Status> {
        let all = headers.headers.iter().flat_map(|map| &map.headers);
        let pairs: Vec<(&str, &[u8])> = all
            .map(|header| (header.key.as_str(), header.raw_value.as_slice()))
            .collect();
        let request = HeaderMap::encode(&pairs);
        let mut in_force = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody in the mix is new: no unit is minted.
        let verdict = in_force.decide(HeaderMap::new(&request), || [0; 16]);
        let mut response = CommonResponse::default();
        match verdict {
            Verdict::Pass => {}
            Verdict::Route(mut routed) => {
                let mutation = response.header_mutation.get_or_insert_default();
                // The cluster is set only where it differs from the listener's.
                let mut rerouted = false;
                routed.write(|edit| {
                    rerouted |= matches!(edit, Edit::Set("x-ombre-cluster", _));
                    perform(edit, mutation);
                });
                response.clear_route_cache = rerouted;
            }
            Verdict::Refuse(_) => {
                return Err(Status::unimplemented("the demo policy refuses nothing"));
            }
        }
        let response = Some(response);
        let response = processing_response::Response::RequestHeaders(HeadersResponse { response });
        Ok(ProcessingResponse {
            response: Some(response),
            ..ProcessingResponse::default()
        })
    }
}

fn perform(edit: Edit<'_>, mutation: &mut HeaderMutation) {
    match edit {
        Edit::Set(name, value) => mutation.set_headers.push(HeaderValueOption {
            header: Some(HeaderValue {
                key: name.to_owned(),
                raw_value: value.to_vec(),
                ..HeaderValue::default()
            }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..HeaderValueOption::default()
        }),
        Edit::Remove(name) => mutation.remove_headers.push(name.to_owned()),
    }
}

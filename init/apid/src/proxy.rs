//! One call: may it be made, and then on to machined, undecoded.

use std::convert::Infallible;
use std::rc::Rc;

use http::header::CONTENT_TYPE;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::{Request, Response};
use keelson_api::METRICS_PATH;
use keelson_api::access::{self, Refusal, Role};
use keelson_control::chain;
use rustls::pki_types::UnixTime;
use tonic::Status;

use crate::bodies::{MACHINED_ENDED, RequestBody, ResponseBody};
use crate::connections::{Ending, Session};
use crate::front::Front;
use crate::gather::{Gather, Patience};
use crate::headers;
use crate::journal::Kind;
use crate::machined::MachinedError;

/// Answers a request, whatever comes.
pub(crate) async fn answer(
    front: Rc<Front>,
    session: Rc<Session>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let is_metrics = request.method() == Method::GET && request.uri().path() == METRICS_PATH;
    if !is_metrics && !is_grpc(request.method(), request.headers()) {
        let mut response = Response::new(ResponseBody::default());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Ok(response);
    }
    let method = request.uri().path().to_owned();
    match permit(&front, &session, &method) {
        Ok((role, method)) => Ok(pass_on(&front, &session, role, method, request).await),
        Err(refused) => {
            log(&front, &session, &method, refused.message());
            Ok(refused.into_http())
        }
    }
}

fn is_grpc(method: &Method, headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    method == Method::POST && content.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// Decides on a call by who calls and what; the method is the table's own text.
fn permit(front: &Front, session: &Session, method: &str) -> Result<(Role, &'static str), Status> {
    let snapshot = front.trust.now();
    let role = session
        .caller
        .role(&snapshot, UnixTime::now())
        .map_err(|outcast| {
            session.end(Ending::Outcast(outcast));
            Status::unauthenticated(outcast.to_string())
        })?;
    match access::decide(method, role) {
        Ok(rule) => Ok((role, rule.method)),
        Err(refusal) => {
            let text = refusal.to_string();
            Err(match refusal {
                Refusal::NoCertificate => Status::unauthenticated(text),
                Refusal::RoleTooLow(_) | Refusal::NotInMaintenance => {
                    Status::permission_denied(text)
                }
                Refusal::UnknownMethod => Status::unimplemented(text),
            })
        }
    }
}

async fn pass_on(
    front: &Front,
    session: &Rc<Session>,
    role: Role,
    method: &'static str,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let call = match front.connections.begin_call(session) {
        Ok(call) => call,
        Err(busy) => {
            let status = Status::resource_exhausted(busy.to_string());
            log(front, session, method, status.message());
            return status.into_http();
        }
    };
    let (mut parts, body) = request.into_parts();
    let body = RequestBody::new(body, Rc::clone(&call));
    let body = Gather::new(body, Patience::Whole);
    parts.uri = uri(method);
    headers::introduce(
        &mut parts.headers,
        session.caller.name(),
        role,
        session.peer,
    );
    let request = Request::from_parts(parts, body);
    let sent = tokio::select! {
        biased;
        failure = call.failure() => return failure.into_http(),
        sent = front.machined.send(request) => sent,
    };
    match sent {
        Ok(response) => response.map(|body| ResponseBody::new(body, call)),
        Err(MachinedError::Broken(_)) => Status::unavailable(MACHINED_ENDED).into_http(),
        Err(error) => Status::unavailable(chain(&error).to_string()).into_http(),
    }
}

/// The table's method as machined is asked for it; what followed the path is gone.
fn uri(method: &'static str) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(http::uri::Authority::from_static("machined"));
    parts.path_and_query = Some(PathAndQuery::from_static(method));
    Uri::from_parts(parts).unwrap_or_default()
}

fn log(front: &Front, session: &Session, method: &str, reason: &str) {
    let role = match &session.caller {
        crate::caller::Caller::Certified(certified) => certified.person.role,
        crate::caller::Caller::Nobody => Role::Maintenance,
    };
    front.journal.warn(
        Kind::RefusedCall,
        format_args!(
            "refused {:?} ({role}) from {} the call {}: {reason}",
            session.caller.name(),
            session.peer,
            method.get(..LONGEST_LOGGED).unwrap_or(method),
        ),
    );
}

/// Our methods are shorter; a path that is none may be as long as all headers.
const LONGEST_LOGGED: usize = 100;

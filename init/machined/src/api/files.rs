//! Files for support; which ones is decided in `keelson-observe`.

use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;

use keelson_api::v1alpha1::files_server::Files;
use keelson_api::v1alpha1::{
    ListFilesRequest, ListFilesResponse, ReadFileRequest, ReadFileResponse,
};
use keelson_control::chain;
use keelson_observe::files::{FilesError, list, open_for_reading};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::Node;
use super::blocking::internal;

/// Bytes in one message.
const CHUNK: usize = 32 * 1024;

/// Messages ready for a client that reads slowly.
const QUEUE: usize = 2;

/// Serves the calls on files.
#[derive(Clone, Debug)]
pub(crate) struct FilesApi {
    pub(crate) node: Arc<Node>,
}

#[tonic::async_trait]
impl Files for FilesApi {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadFileResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<ListFilesResponse>, Status> {
        let path = request.into_inner().path;
        let root = self.node.machine();
        let entries = tokio::task::spawn_blocking(move || list(&root, &path))
            .await
            .map_err(|error| internal(&error))?
            .map_err(refused)?;
        Ok(Response::new(ListFilesResponse { entries }))
    }

    async fn read(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let path = request.into_inner().path;
        let root = self.node.machine();
        let file = tokio::task::spawn_blocking(move || open_for_reading(&root, &path))
            .await
            .map_err(|error| internal(&error))?
            .map_err(refused)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || send(file, &sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn send(mut file: impl Read, sender: &mpsc::Sender<Result<ReadFileResponse, Status>>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let message = match file.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                chunk.truncate(length);
                Ok(ReadFileResponse { chunk })
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(internal(&error)),
        };
        let last = message.is_err();
        // The client has gone, or has its error.
        if sender.blocking_send(message).is_err() || last {
            return;
        }
    }
}

fn refused(error: FilesError) -> Status {
    let text = chain(&error);
    match error {
        FilesError::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Status::not_found(text)
        }
        FilesError::Open { .. } => Status::internal(text),
        FilesError::Path { .. } => Status::invalid_argument(text),
        FilesError::Refused { .. } => Status::permission_denied(text),
        FilesError::TooMany { .. }
        | FilesError::TooManyLinks { .. }
        | FilesError::WrongKind { .. } => Status::failed_precondition(text),
    }
}

//! What the machine has and what uses it: asked of the kernel, passed on as it is.

use std::sync::Arc;

use keelson_api::v1alpha1::resources_server::Resources;
use keelson_api::v1alpha1::{
    AddressesRequest, AddressesResponse, CgroupsRequest, CgroupsResponse, DisksRequest,
    DisksResponse, MemoryRequest, MemoryResponse, MountsRequest, MountsResponse, ProcessesRequest,
    ProcessesResponse, RoutesRequest, RoutesResponse, SocketsRequest, SocketsResponse,
};
use keelson_control::BootFacts;
use tonic::{Request, Response, Status};

use super::Node;
use super::blocking::{blocking, internal};

/// Serves the calls on resources.
#[derive(Clone, Debug)]
pub(crate) struct ResourcesApi {
    pub(crate) node: Arc<Node>,
}

#[tonic::async_trait]
impl Resources for ResourcesApi {
    async fn processes(
        &self,
        _: Request<ProcessesRequest>,
    ) -> Result<Response<ProcessesResponse>, Status> {
        let root = self.node.machine();
        let processes = blocking(move || keelson_observe::processes(&root)).await?;
        Ok(Response::new(ProcessesResponse { processes }))
    }

    async fn cgroups(
        &self,
        _: Request<CgroupsRequest>,
    ) -> Result<Response<CgroupsResponse>, Status> {
        let root = self.node.machine();
        let cgroups = blocking(move || keelson_observe::cgroups(&root)).await?;
        Ok(Response::new(CgroupsResponse { cgroups }))
    }

    async fn mounts(&self, _: Request<MountsRequest>) -> Result<Response<MountsResponse>, Status> {
        let root = self.node.machine();
        let mounts = blocking(move || keelson_observe::mounts(&root)).await?;
        Ok(Response::new(MountsResponse { mounts }))
    }

    async fn memory(&self, _: Request<MemoryRequest>) -> Result<Response<MemoryResponse>, Status> {
        let root = self.node.machine();
        blocking(move || keelson_observe::memory(&root))
            .await
            .map(Response::new)
    }

    async fn disks(&self, _: Request<DisksRequest>) -> Result<Response<DisksResponse>, Status> {
        let root = self.node.machine();
        // Without the facts no disk is called the system's; the rest holds.
        let system = BootFacts::read_from(&self.node.paths.boot_facts())
            .ok()
            .map(|facts| facts.disk);
        let disks = blocking(move || keelson_observe::disks(&root, system.as_deref())).await?;
        Ok(Response::new(DisksResponse { disks }))
    }

    async fn addresses(
        &self,
        _: Request<AddressesRequest>,
    ) -> Result<Response<AddressesResponse>, Status> {
        let links = keelson_observe::links()
            .await
            .map_err(|error| internal(&error))?;
        Ok(Response::new(AddressesResponse { links }))
    }

    async fn routes(&self, _: Request<RoutesRequest>) -> Result<Response<RoutesResponse>, Status> {
        let routes = keelson_observe::routes()
            .await
            .map_err(|error| internal(&error))?;
        Ok(Response::new(RoutesResponse { routes }))
    }

    async fn sockets(
        &self,
        request: Request<SocketsRequest>,
    ) -> Result<Response<SocketsResponse>, Status> {
        let listening = request.into_inner().listening;
        let root = self.node.machine();
        let sockets = blocking(move || keelson_observe::sockets(&root, listening)).await?;
        Ok(Response::new(SocketsResponse { sockets }))
    }
}

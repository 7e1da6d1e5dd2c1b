//! What the machine of the tests has.

use keelson_api::v1alpha1::files_server::Files;
use keelson_api::v1alpha1::resources_server::Resources;
#[allow(clippy::wildcard_imports, reason = "nearly all messages of the API")]
use keelson_api::v1alpha1::*;
use tonic::{Request, Status, async_trait};

use super::{Answer, Answers, answer, answers};
use crate::fake::State;

#[async_trait]
impl Resources for State {
    async fn processes(&self, _: Request<ProcessesRequest>) -> Answer<ProcessesResponse> {
        let process = Process {
            pid: 1,
            name: "keelson".to_owned(),
            command_line: "/keelson init".to_owned(),
            ..Default::default()
        };
        answer(ProcessesResponse {
            processes: vec![process],
        })
    }

    async fn cgroups(&self, _: Request<CgroupsRequest>) -> Answer<CgroupsResponse> {
        let cgroup = Cgroup {
            path: "keelson/kubelet".to_owned(),
            usage: Some(CgroupUsage::default()),
            ..Default::default()
        };
        answer(CgroupsResponse {
            cgroups: vec![cgroup],
        })
    }

    async fn mounts(&self, _: Request<MountsRequest>) -> Answer<MountsResponse> {
        let mount = Mount {
            target: "/var".to_owned(),
            size_bytes: 2 << 30,
            ..Default::default()
        };
        answer(MountsResponse {
            mounts: vec![mount],
        })
    }

    async fn memory(&self, _: Request<MemoryRequest>) -> Answer<MemoryResponse> {
        answer(MemoryResponse {
            total_bytes: 1 << 30,
            ..Default::default()
        })
    }

    async fn disks(&self, _: Request<DisksRequest>) -> Answer<DisksResponse> {
        let disk = Disk {
            device: "/dev/vda".to_owned(),
            size_bytes: 4 << 30,
            system: true,
            ..Default::default()
        };
        answer(DisksResponse { disks: vec![disk] })
    }

    async fn addresses(&self, _: Request<AddressesRequest>) -> Answer<AddressesResponse> {
        let link = Link {
            name: "eth0".to_owned(),
            state: "up".to_owned(),
            addresses: vec!["10.0.2.15/24".to_owned()],
            ..Default::default()
        };
        answer(AddressesResponse { links: vec![link] })
    }

    async fn routes(&self, _: Request<RoutesRequest>) -> Answer<RoutesResponse> {
        let route = Route {
            destination: "default".to_owned(),
            gateway: "10.0.2.2".to_owned(),
            ..Default::default()
        };
        answer(RoutesResponse {
            routes: vec![route],
        })
    }

    async fn sockets(&self, request: Request<SocketsRequest>) -> Answer<SocketsResponse> {
        let socket = |state: &str| Socket {
            protocol: "tcp".to_owned(),
            state: state.to_owned(),
            local_address: "0.0.0.0:9440".to_owned(),
            ..Default::default()
        };
        let mut sockets = vec![socket("listen"), socket("established")];
        if request.into_inner().listening {
            sockets.truncate(1);
        }
        answer(SocketsResponse { sockets })
    }
}

#[async_trait]
impl Files for State {
    async fn list(&self, request: Request<ListFilesRequest>) -> Answer<ListFilesResponse> {
        let entry = |name: &str, kind: &str| FileEntry {
            name: name.to_owned(),
            kind: kind.to_owned(),
            mode: "0755".to_owned(),
            target: request.get_ref().path.clone(),
            ..Default::default()
        };
        answer(ListFilesResponse {
            entries: vec![entry("log", "directory"), entry("run", "symlink")],
        })
    }

    type ReadStream = Answers<ReadFileResponse>;

    async fn read(&self, request: Request<ReadFileRequest>) -> Answer<Answers<ReadFileResponse>> {
        if request.into_inner().path == "/secret" {
            return Err(Status::permission_denied("/secret holds keys"));
        }
        let chunk = |bytes: &[u8]| ReadFileResponse {
            chunk: bytes.to_vec(),
        };
        answers(vec![chunk(b"one\n\x00\xff"), chunk(b"\ntwo")], false)
    }
}

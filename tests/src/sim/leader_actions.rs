//! What a leadership's resource manager wants, carried out: messages to job masters and to task managers, closed
//! sessions, probed ports.

use tidemill_coordinator::engine::leader::{
    AddressedCommand, Grant, JobMasterEvent, ResourceManagerAction, ResourceManagerEvent, SessionId, StorageAnswer,
    TaskManagerCommand, TaskManagerMessage,
};
use tidemill_coordinator::engine::replicated::{CommandBody, Garbage, JobState};
use tidemill_model::id::{JobId, LeaderEpoch, TaskManagerId};

use super::clock::{MILLISECOND, Time};
use super::coordinator::Proposer;
use super::event::{Actor, Downward, Event, Mail, StorageRequest};
use super::fact::Fact;
use super::network::Process;
use super::raft::Node;
use super::world::World;

/// How long a probe of a port may take.
const PROBE_TIMEOUT: Time = 500 * MILLISECOND;

impl World {
    pub(super) fn act(&mut self, node: Node, epoch: LeaderEpoch, action: ResourceManagerAction) {
        match action {
            ResourceManagerAction::Send { session, task_manager, command } => {
                self.send_to(node, epoch, session, task_manager, command);
            }
            ResourceManagerAction::Close { session } => {
                let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
                if let Some(connection) = leadership.sessions.remove(&session) {
                    self.send_down(connection, Downward::End);
                }
            }
            ResourceManagerAction::Registered { job, location, report } => {
                self.tell(node, epoch, job, JobMasterEvent::TaskManagerRegistered { location, report });
            }
            ResourceManagerAction::Lost { task_manager, reason } => {
                let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
                for job in leadership.known.clone() {
                    let reason = reason.clone();
                    self.tell(node, epoch, job, JobMasterEvent::TaskManagerLost { task_manager, reason });
                }
            }
            ResourceManagerAction::Forward { job, task_manager, message } => {
                self.forward(node, epoch, job, task_manager, message);
            }
            ResourceManagerAction::DrainingChanged { job, task_manager, draining } => {
                self.tell(node, epoch, job, JobMasterEvent::DrainingChanged { task_manager, draining });
            }
            ResourceManagerAction::Granted { grant, locations } => {
                let Grant { job, request, slots } = grant;
                self.tell(node, epoch, job, JobMasterEvent::SlotsGranted { request, slots, locations });
            }
            ResourceManagerAction::SlotsHeld { job, slots, last_request } => {
                self.tell(node, epoch, job, JobMasterEvent::SlotsHeld { slots, last_request });
            }
            ResourceManagerAction::Straggled { job } => {
                let jobs = &self.coordinators[node].state.jobs;
                if jobs.get(&job).is_some_and(JobState::cleans_up_after_stragglers) {
                    self.propose(node, epoch, CommandBody::RecordStraggler { job }, Proposer::Master { epoch, job });
                }
            }
            ResourceManagerAction::ProbePort { task_manager, data_address } => {
                let Some(place) = self.places.iter().position(|place| place.address == data_address) else { return };
                let delay = self.random.between(1, PROBE_TIMEOUT / MILLISECOND) * MILLISECOND;
                let boot = self.coordinators[node].life.boot;
                self.after(delay, Event::PortProbed { node, boot, epoch, task_manager, place });
            }
        }
    }

    /// The machine answers that nobody listens; no answer is no proof of death.
    pub(crate) fn port_probed(&mut self, node: Node, boot: u64, epoch: LeaderEpoch, id: TaskManagerId, place: usize) {
        if !self.coordinators[node].life.is(boot) {
            return;
        }
        let there = self.answers(Process::Coordinator(node), Process::TaskManager(place));
        let refused = there && !self.places[place].life.up;
        let event = ResourceManagerEvent::PortProbed { task_manager: id, refused };
        self.post(node, epoch, Actor::ResourceManager, Mail::Resources(event));
    }

    pub(crate) fn ask_storage(
        &mut self,
        node: Node,
        boot: u64,
        epoch: LeaderEpoch,
        job: JobId,
        request: StorageRequest,
    ) {
        if !self.coordinators[node].life.is(boot) {
            return;
        }
        let answer = match request {
            _ if self.nemesis.active && self.random.chance(100) => StorageAnswer::Failed,
            StorageRequest::List => StorageAnswer::Listed(self.storage.files_of(job)),
            StorageRequest::Delete(garbage) => {
                let paths = match &garbage {
                    Garbage::Files(paths) => paths.clone(),
                    Garbage::Folder => self.storage.files_of(job),
                };
                self.storage.delete(job, &paths);
                self.note(&Fact::Deleted { job, paths: &paths });
                StorageAnswer::Deleted(garbage)
            }
        };
        self.post(node, epoch, Actor::Master(job), Mail::Master(JobMasterEvent::StorageAnswered(answer)));
    }

    fn forward(
        &mut self,
        node: Node,
        epoch: LeaderEpoch,
        job: JobId,
        task_manager: TaskManagerId,
        message: TaskManagerMessage,
    ) {
        match message {
            TaskManagerMessage::Attempt(report) => {
                self.tell(node, epoch, job, JobMasterEvent::AttemptChanged { task_manager, report });
            }
            TaskManagerMessage::Finalized(report) => {
                self.tell(node, epoch, job, JobMasterEvent::Finalized { task_manager, report });
            }
            TaskManagerMessage::Executor(executor) => {
                self.tell(node, epoch, job, JobMasterEvent::ExecutorStarted { task_manager, executor });
            }
            TaskManagerMessage::Heartbeat { progress, .. } => {
                for (_, records_in, records_out) in progress {
                    self.tell(node, epoch, job, JobMasterEvent::Progressed { task_manager, records_in, records_out });
                }
            }
            TaskManagerMessage::Checkpoint(report) => {
                self.tell(node, epoch, job, JobMasterEvent::CheckpointReported { report });
            }
            TaskManagerMessage::Report { .. } => {}
        }
    }

    fn tell(&mut self, node: Node, epoch: LeaderEpoch, job: JobId, event: JobMasterEvent) {
        let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
        if leadership.known.contains(&job) {
            self.post(node, epoch, Actor::Master(job), Mail::Master(event));
        }
    }

    pub(super) fn send_to(
        &mut self,
        node: Node,
        epoch: LeaderEpoch,
        session: SessionId,
        task_manager: TaskManagerId,
        command: TaskManagerCommand,
    ) {
        let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
        let Some(&connection) = leadership.sessions.get(&session) else { return };
        let state = &self.coordinators[node].state;
        self.watch.observe(&Fact::Sent { epoch, task_manager, command: &command, state });
        self.send_down(connection, Downward::Command(AddressedCommand { epoch, task_manager, command }));
    }
}

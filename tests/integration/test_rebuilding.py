"""A rebuild of profiles that takes over while live goes on, on a real MongoDB; cut off anywhere, and by itself."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import orjson
import pytest
from bson.binary import Binary

from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.streams import PROFILE, TRACKING
from contracts.tracking import CORRECTED
from services.profile.bulk import Here
from services.profile.domain.state import FOLD_VERSION
from services.profile.folding import STATES, Folding
from services.profile.rebuild import ProfileProjection
from services.profile.renewing import Renewing
from services.profile.store import PLACE
from services.profile.takeover import OWN, REBUILT, Marks, TakeOver
from shared.checkpoints import Place
from shared.consumer import Consumer
from shared.errors import Conflict, SamlaError, Unavailable
from shared.eventlog import NewEvent
from shared.eventlog.sealed import open_events
from shared.keyring import ORDINARY, Sealing, new_id
from shared.lease import Lease
from shared.local.suite import ROOT, eventually
from shared.rebuild import Tools, verify
from tests.integration import test_corrections as corrections
from tests.integration.identity_world import World

ANN, BO, CIA = ("user", "ann"), ("user", "bo"), ("user", "cia")
TABLET, PHONE = ("anonymous", "tablet"), ("anonymous", "phone")
STEPS = [
    "recovered", "folded", "caught up", "held", "drained", "committed",
    "renamed states", "renamed merges", "renamed given", "renamed parked", "released",
]  # fmt: skip
SHORT = 0.3
"""Seconds of a lease that nobody renews."""


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    made.url, made.prefix = mongodb_url, prefix
    yield made
    made.client.close()


def tools_of(world):
    return Tools("profile", world.client, world.profiles, world.log, world.keyring, world.transactor, world.marks)


def marks_of(tools):
    return Marks(tools.db, tools.checkpoints, tools.transactor)


def take_over(tools, seconds=15.0):
    """A rebuild as its command makes it, with its lease taken."""
    marks = marks_of(tools)
    lease = marks.lease(seconds=seconds)
    lease.wait()
    projection = ProfileProjection(Here())
    return TakeOver(tools, marks, lease, projection.end, projection.fold)


def go_to(steps, last):
    """Runs as far as a step."""
    for step in steps:
        if step == last:
            return
    raise AssertionError(f"it never came to {last}")


def goes_on(world):
    """Live handles everything."""
    world.settle()
    world.follow()
    world.forgets()


def lives(world, number=0):
    """Something happens to several people, one of whom shares a device."""
    world.happens(ANN, TABLET)
    world.happens(BO, TABLET)
    world.happens(TABLET)
    world.happens(CIA, PHONE)
    world.happens(("user", f"new-{number}"))


def leftovers(db):
    names = [f"{each}{REBUILT}" for each in OWN]
    return [each for each in db.list_collection_names() if any(map(each.startswith, names))]


def heads(world):
    return sum(world.log.heads(PROFILE).values())


def stays_whole(world):
    """Live is what the log gives, nothing is held up, nothing lies about."""
    assert world.marks.held_by() is None
    world.verify_profiles()
    assert not leftovers(world.profiles)
    lives(world, 99)
    goes_on(world)
    world.verify_profiles()


def test_live_goes_on_while_it_is_rebuilt_and_stands_still_only_while_it_is_held(world):
    """What happens before, meanwhile and after counts once; a rebuild appends nothing."""
    lives(world)
    goes_on(world)
    rebuilding = take_over(tools_of(world))
    steps = rebuilding.steps()
    for number, step in enumerate(["recovered", "folded", "caught up"], 1):
        go_to(steps, step)
        lives(world, number)
        goes_on(world)
    told = heads(world)
    go_to(steps, "held")
    lives(world, 4)
    world.settle()
    with pytest.raises(Unavailable, match="held up by a rebuild"):
        world.follow()
    for _ in steps:
        pass
    assert heads(world) == told
    assert rebuilding.report["caught_up"] > 0
    stays_whole(world)
    assert len(world.events_of(CIA)) == 6


@pytest.mark.parametrize("step", STEPS)
def test_cut_off_behind_any_step_it_can_be_begun_again(world, step):
    """Live is what it was, or is wholly the rebuilt; the next rebuild finishes, or undoes, what the last has left."""
    lives(world)
    goes_on(world)
    lives(world, 1)
    goes_on(world)
    go_to(take_over(tools_of(world), SHORT).steps(), step)
    told = heads(world)
    take_over(tools_of(world)).run()
    assert heads(world) == told
    stays_whole(world)


@pytest.mark.parametrize("step", STEPS)
def test_the_service_finishes_what_a_rebuild_has_left_that_is_no_more(world, step):
    """Without anybody's doing: once nobody renews the lease."""
    lives(world)
    goes_on(world)
    lives(world, 1)
    renewing = Renewing(world.profiles, world.states, world.marks, world.transactor)
    renewing.start()
    go_to(take_over(tools_of(world), SHORT).steps(), step)

    def recovered():
        renewing.step()
        return world.marks.held_by() is None

    eventually(recovered, 10, "live is still held up")
    goes_on(world)
    world.verify_profiles()
    assert world.profiles["rebuilds"].find_one({"_id": "swap"}) is None


@pytest.mark.parametrize("recovered", [True, False])
def test_a_rebuild_that_was_taken_for_dead_cannot_take_over(world, recovered):
    """Somebody else has the lease, and has ended its hold or not yet; live is what it was."""
    lives(world)
    goes_on(world)
    slow = take_over(tools_of(world), SHORT)
    steps = slow.steps()
    go_to(steps, "drained")
    marks = marks_of(tools_of(world))
    lease = marks.lease()
    lease.wait()
    if recovered:
        marks.recover()
        lives(world, 1)
        goes_on(world)
    with pytest.raises(SamlaError if recovered else Conflict):
        next(steps)
    marks.recover()
    stays_whole(world)


def test_a_rebuild_that_has_lost_its_lease_leaves_the_next_ones_hold_alone(world):
    """It gives up, and undoes nothing but its own."""
    lives(world)
    goes_on(world)
    slow = take_over(tools_of(world), SHORT)
    slow_steps = slow.steps()
    go_to(slow_steps, "folded")
    other = take_over(tools_of(world))
    steps = other.steps()
    go_to(steps, "held")
    slow.steps = lambda: slow_steps
    with pytest.raises((Conflict, SamlaError)):
        slow.run()
    assert world.marks.held_by() is not None
    for _ in steps:
        pass
    stays_whole(world)


def test_a_hold_from_which_a_take_over_has_followed_is_not_just_ended(world):
    """Where a commit was given up and has gone through after all: live would be overwritten with what it was."""
    lives(world)
    goes_on(world)
    rebuilding = take_over(tools_of(world))
    go_to(rebuilding.steps(), "committed")
    marks = marks_of(tools_of(world))
    assert not marks.release(world.marks.held_by())
    assert world.marks.held_by() is not None
    marks.recover()
    rebuilding._lease.give_back()
    stays_whole(world)


def test_what_was_prepared_on_the_states_before_is_prepared_again(world):
    """A batch that began before a rebuild took over, and would commit after it, where its checkpoint stands again."""
    lives(world)
    goes_on(world)
    folding = Folding(world.states, world.log, world.keyring, world.marks, world.traits)
    prepared = []

    def prepare(events):
        prepared.append(len(events))
        if len(prepared) == 1:
            take_over(tools_of(world)).run()
        return folding.fold(events)

    slow = Consumer(STATES, TRACKING, world.log, world.transactor, world.marks, prepare, world.now)
    world.happens(CIA, PHONE)
    partitions = range(world.log.partitions(TRACKING))
    assert slow.step(partitions) == (0, True)
    assert slow.step(partitions).handled == 1 and prepared == [1, 1]
    goes_on(world)
    world.verify_profiles()


def test_a_lease_is_one_processes_until_it_is_given_back_or_not_renewed(world):
    """Of a process that is gone at once."""
    leases = world.profiles["leases"]
    mine, other = Lease(leases, "work", 15), Lease(leases, "work", 15)
    mine.setup()
    assert mine.take() and not other.is_free() and not other.take()
    with mine.kept():
        pass
    assert other.take() and not mine.take()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host, _, rest = other.holder.partition(":")
    leases.update_one({"_id": "work"}, {"$set": {"holder": f"{host}:{gone.pid}:1"}})
    assert mine.take()
    short = Lease(leases, "short", SHORT)
    short.setup()
    assert short.take()
    waited = Lease(leases, "short", SHORT)
    waited.wait()
    with pytest.raises(Conflict):
        world.transactor.run(short.confirm)
    world.transactor.run(waited.confirm)
    assert rest


def test_who_is_erased_meanwhile_does_not_come_back(world):
    """Whether they are forgotten while it is folded, caught up or held."""
    for before in ("folded", "caught up", "held"):
        lives(world)
        goes_on(world)
        rebuilding = take_over(tools_of(world))
        steps = rebuilding.steps()
        go_to(steps, {"folded": "recovered", "caught up": "folded", "held": "caught up"}[before])
        subject, profile = world.subject(CIA), world.profile(CIA)
        request = world.fences(profile)
        world.tells(SUBJECTS_ERASED, request)
        world.forgets()
        go_to(steps, before)
        world.tells(ERASURE_COMPLETED, request)
        if before != "held":
            world.forgets()
        for _ in steps:
            pass
        rebuilding._lease.give_back()
        world.forgets()
        assert world.states.load([subject]) == {} and world.states.owned_by([profile]) == {}
        world.verify_profiles()
        assert not leftovers(world.profiles)


def test_a_computed_trait_that_is_defined_meanwhile_is_in_all_states_afterwards(world):
    """It was filled in what was live, and what takes over holds it."""
    for number, step in enumerate(["folded", "caught up"]):
        lives(world, number)
        goes_on(world)
        rebuilding = take_over(tools_of(world))
        steps = rebuilding.steps()
        go_to(steps, step)
        world.traits.add(f"trait-{number}", {"event": "E", "measure": "count"}, 1)
        world.traits.fill(number + 1)
        for _ in steps:
            pass
        rebuilding._lease.give_back()
        lacking = len(world.states.lacking(number + 1, 1_000))
        [row] = [each for each in world.traits.rows() if each["key"] == f"trait-{number}"]
        assert not lacking and row["filled"]
        goes_on(world)
        world.verify_profiles()


def test_while_live_is_held_no_computed_trait_is_defined(world):
    """It would be in nothing that takes over; a moment later it can be."""
    lives(world, 0)
    rebuilding = take_over(tools_of(world))
    steps = rebuilding.steps()
    go_to(steps, "drained")
    with pytest.raises(Unavailable, match="held up by a rebuild"):
        world.traits.add("trait", {"event": "E", "measure": "count"}, 1)
    for _ in steps:
        pass
    rebuilding._lease.give_back()
    assert world.traits.add("trait", {"event": "E", "measure": "count"}, 1)["since"] == 1


# What is parked


@pytest.fixture
def parking(mongodb_url, prefix):
    made = corrections.World(mongodb_url, prefix)
    yield made
    made.client.close()


def test_what_live_has_parked_or_retried_meanwhile_is_parked_or_handled_afterwards(parking):
    """Also where this fold could handle it; and corrections of it, by then, are as they are live."""
    world, subject, body = parking, corrections.new_id(), corrections.body
    tools = world.profile.tools
    first, second, third = (world.put(subject, body(name)) for name in "ABC")
    world.broken = {first, second, third}
    world.profile.consume()
    rebuilding = take_over(tools)
    steps = rebuilding.steps()
    go_to(steps, "folded")
    # Retried behind where beside is, and before.
    world.broken -= {first}
    assert world.profile.retry(first)
    late, later = world.put(subject, body("D")), world.put(subject, body("E"))
    world.put(subject, body("F"), corrects=first)
    world.broken |= {late, later}
    world.profile.consume()
    go_to(steps, "caught up")
    world.broken -= {second, late}
    assert world.profile.retry(second) and world.profile.retry(late)

    def held_meanwhile(events):
        finish = world.profile.prepare(events)
        go_to(steps, "held")
        return finish

    slow = Consumer(STATES, TRACKING, world.log, world.transactor, world.profile.checkpoints, held_meanwhile, lambda: 1)
    [parked] = [each for each in world.profile.checkpoints.parked() if each.event == later]
    with pytest.raises(Unavailable):
        slow.retry(parked)
    for _ in steps:
        pass
    assert world.profile.parked() == {third, later}
    assert world.counts(subject) == {"F": 1, "B": 1, "D": 1}
    corrections.agree_profile(world)
    world.broken = set()
    assert world.profile.retry(third) and world.profile.retry(later)
    assert world.counts(subject) == {"F": 1, "B": 1, "C": 1, "D": 1, "E": 1}
    corrections.agree_profile(world)


def test_what_only_the_newer_fold_cannot_handle_is_parked_by_the_rebuild(parking):
    """It is nowhere lost: it is on live's list afterwards."""
    world, subject = parking, corrections.new_id()
    world.put(subject, corrections.body("A"))
    world.profile.consume()
    rebuilding = take_over(world.profile.tools)
    steps = rebuilding.steps()
    go_to(steps, "folded")
    bad = world.put(subject, corrections.UNREADABLE)
    # An older code had no use for it.
    place = Place(STATES, TRACKING, world.log.find(TRACKING, [bad])[bad].partition)
    mark = world.profile.checkpoints.at(place)
    world.transactor.run(lambda within: world.profile.checkpoints.move(within, {place: (mark, mark.position + 1)}))
    for _ in steps:
        pass
    assert world.profile.parked() == {bad}
    assert world.counts(subject) == {"A": 1}


# The command, in processes


def environment(world, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAMLA_")}
    return kept | {
        "MONGODB_URL": world.url,
        "SAMLA_PREFIX": world.prefix,
        "SAMLA_MASTER_KEY": (b"m" * 32).hex(),
        "PYTHONPATH": str(ROOT),
        **more,
    }


def command(world, *options, **more):
    return subprocess.run(
        [sys.executable, "-m", "services.profile.rebuild", "--json", *options], env=environment(world, **more),
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def crowd(world, events=300, people=60):
    """Many people with some events each, in all partitions; some share devices, some events are corrected, and one
    cannot be read."""
    chance = random.Random(1)
    sent = []
    for _ in range(events):
        who = ("user", f"u{chance.randrange(people)}")
        sent.append(world.sent(who, ("anonymous", f"a{chance.randrange(people // 2)}")))
    found = world.log.find(TRACKING, chance.sample(sent, 10))
    for each in found.values():
        corrects(world, each, "Corrected")
    corrects(world, found[min(found)], None)
    goes_on(world)
    assert len(world.marks.parked()) == 1


def corrects(world, event, name):
    """A correction of an event: it was called otherwise. Without a name it cannot be read."""
    [body] = open_events(world.keyring, [event])
    said = {**body, "event": name} if name else {"type": "track"}
    identity = new_id()
    [sealed] = world.keyring.seal([Sealing(event.subject, ORDINARY, identity, orjson.dumps(said))])
    new = NewEvent(
        id=identity, type=CORRECTED, source="web", subject=event.subject, time=world.now(), sealed={ORDINARY: sealed},
        data={"corrects": event.id, "number": 1, "cleaning": 1},
    )  # fmt: skip
    world.log.append(TRACKING, [new])


def test_however_many_processes_fold_and_whichever_engine_the_digest_is_the_same(world):
    """One, two, and a Dask cluster of two workers; equal to what is live."""
    crowd(world)
    world.traits.add("number", {"event": "E", "measure": "count"}, 1)
    expected = verify(ProfileProjection(), tools_of(world))
    assert expected["equal"] and expected["documents"] > 60
    for options in (
        ["--processes", "1"],
        ["--processes", "2"],
        ["--processes", "2", "--engine", "dask"],
        ["--processes", "2", "--engine", "dask", "--slice", "7"],
    ):
        done = command(world, "--verify", *options)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["equal"], report["rebuilt"]) == (True, expected["rebuilt"]), (options, report)
        assert report["events"] == expected["events"]
    assert not leftovers(world.profiles)


def test_a_rebuild_on_a_cluster_of_ones_own_takes_over(world):
    """Workers with the settings in their environment, in slices that are many."""
    distributed = pytest.importorskip("distributed")
    crowd(world)
    done = command(world, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9")
    assert done.returncode == 2 and "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, host="127.0.0.1", dashboard_address=None,
        env=environment(world),
    ) as cluster:  # fmt: skip
        told = heads(world)
        done = command(world, "--engine", "dask", "--scheduler", cluster.scheduler_address, "--slice", "20")
        assert done.returncode == 0, done.stderr
        assert heads(world) == told
        stays_whole(world)
        other = command(world, "--engine", "dask", "--scheduler", cluster.scheduler_address, "--verify")
        assert json.loads(other.stdout)["equal"]
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
        env=environment(world, SAMLA_PREFIX="another"),
    ) as cluster:  # fmt: skip
        done = command(world, "--engine", "dask", "--scheduler", cluster.scheduler_address)
        assert done.returncode == 2 and "lead to another deployment" in done.stderr
        stays_whole(world)


def test_killed_at_any_moment_and_started_again_it_ends_equal(world):
    """SIGKILL, while live goes on; its processes end with it."""
    crowd(world)
    chance = random.Random(2)
    for _ in range(6):
        job = subprocess.Popen(
            [sys.executable, "-m", "services.profile.rebuild", "--json", "--processes", "2"], env=environment(world),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        there = set(leftovers(world.profiles))

        def begun(there=there, job=job):
            return set(leftovers(world.profiles)) - there or job.poll() is not None

        eventually(begun, 60, "it does not begin")
        threading.Event().wait(chance.uniform(0, 2.0))
        job.send_signal(signal.SIGKILL)
        job.communicate()
        world.sent(CIA, PHONE)
        world.settle()
        # It may be held: whoever comes next ends that.
    done = command(world, "--processes", "2")
    assert done.returncode == 0, done.stderr
    goes_on(world)
    stays_whole(world)


def test_without_the_package_a_cluster_is_an_error_that_says_how_to_get_it(world, tmp_path):
    """One line, and exit code 2."""
    (tmp_path / "distributed.py").write_text("raise ImportError('not here')\n")
    done = command(world, "--engine", "dask", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 2
    assert "pip install 'samla[dask]'" in done.stderr


# By itself


def by_an_older_fold(world):
    """The states as version 2 made them, as an upgrade finds them."""
    for subject, doc in world.states.load([each["_id"] for each in world.states.states.find({}, {"_id": 1})]).items():
        if doc.states:
            world.states.states.update_one({"_id": subject}, old(world, subject, doc.states[ORDINARY]))
    world.profiles["rebuilds"].update_one({"_id": "live"}, {"$set": {"fold": 2}}, upsert=True)


def old(world, at, state):
    subject, _, to = at.partition(">")
    was = {
        "ids": {
            kind: {value: [*seen[:3], seen[3].split(":", 2)[2]] for value, seen in values.items()}
            for kind, values in state["ids"].items()
        },
        "traits": {},
        "events": {name: event[:5] for name, event in state["events"].items()},
        "opinions": {},
    }
    place = f"{PLACE} {to}" if to else PLACE
    [text] = world.keyring.seal([Sealing(subject, ORDINARY, place, orjson.dumps(was))])
    return {"$set": {"v": 2, "s": {ORDINARY: Binary(text)}}, "$unset": {"d": ""}}


def renewing_of(world, *command_):
    options = {"command": command_} if command_ else {}
    return Renewing(world.profiles, world.states, world.marks, world.transactor, **options)


def test_states_by_an_older_fold_are_made_anew_by_themselves(world, monkeypatch):
    """Live goes on meanwhile; nothing is told of it; then nothing is left of the older fold."""
    for name, value in environment(world).items():
        monkeypatch.setenv(name, value)
    crowd(world)
    before, told = world.everything(), heads(world)
    by_an_older_fold(world)
    assert world.states.has_older()
    renewing = renewing_of(world)
    renewing.start()
    renewing.step()
    assert heads(world) == told
    lives(world)
    goes_on(world)

    def renewed():
        renewing.step()
        return marks_of(tools_of(world)).fold() == FOLD_VERSION

    try:
        eventually(renewed, 60, "the states are not made anew")
    finally:
        renewing.stop()
    assert not world.states.has_older()
    goes_on(world)
    stays_whole(world)
    people = set(before) & set(world.everything())
    assert people and all(world.everything()[each]["events"]["E"][0] for each in people)


def test_of_an_empty_store_it_is_known_by_which_fold_it_is_made(world):
    """Nothing is started for it; and states that are there, of which nobody has said by which, are looked at."""
    renewing_of(world, "false").start()
    assert marks_of(tools_of(world)).fold() == FOLD_VERSION
    world.profiles["rebuilds"].delete_one({"_id": "live"})
    lives(world)
    goes_on(world)
    by_an_older_fold(world)
    world.profiles["rebuilds"].delete_one({"_id": "live"})
    renewing_of(world, "false").start()
    assert marks_of(tools_of(world)).fold() is None


def test_an_older_code_that_is_started_again_leaves_something_to_do_for_the_newer(world):
    """What it folds is by its own fold."""
    marks = marks_of(tools_of(world))
    marks.set_fold(FOLD_VERSION + 1)
    renewing_of(world, "false").start()
    assert marks.fold() == FOLD_VERSION


def test_a_rebuild_that_fails_is_tried_again_later_and_one_runs_at_a_time(world, tmp_path):
    """Seconds, then twice as many; not while another has the lease."""
    ran = tmp_path / "ran"
    script = (
        f"import sys; open({str(ran)!r}, 'a').write('x'); print('samla: it cannot be', file=sys.stderr); sys.exit(2)"
    )
    renewing = renewing_of(world, sys.executable, "-c", script)
    marks = marks_of(tools_of(world))
    marks.set_fold(FOLD_VERSION - 1)
    other = marks.lease()
    assert other.take()
    renewing.step()
    assert renewing._job is None
    other.give_back()
    renewing.step()

    def ended():
        renewing.step()
        return renewing._job is None

    eventually(ended, 20, "it has not ended")
    assert renewing._failures == 1 and renewing._not_before > time.monotonic() + 2
    renewing.step()
    assert renewing._job is None and ran.read_text() == "x"


def test_a_rebuild_by_itself_ends_with_its_service(world):
    """Also where that is killed: nobody else would look after it."""
    child = "from services.profile.rebuild import _end_with; import os, time; _end_with(os.getppid()); time.sleep(60)"
    code = (
        "import subprocess, sys, time\n"
        f"job = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "print(job.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment(world), stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    threading.Event().wait(1)
    parent.kill()
    parent.communicate()

    def gone():
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    eventually(gone, 20, "it has outlived its service")

"""What the keyring promises, on in-memory tables and on MongoDB's."""

import pytest

from shared.errors import MissingKey, Poison, SamlaError, SubjectsFenced
from shared.keyring import Keyring, Sealed, Sealing
from shared.keystore import MemoryKeyStore, MongoKeyStore
from shared.mongo import connect

MASTER = b"k" * 32
ANNA = ("email", "anna@example.org")


class Time:
    """Seconds that pass when told to."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(params=["memory", "mongodb"])
def store(request, mongodb_url, prefix):
    if request.param == "memory":
        return MemoryKeyStore()
    return MongoKeyStore(connect(mongodb_url), f"{prefix}_keyring")


@pytest.fixture
def keyring(store):
    ring = Keyring(store, MASTER)
    ring.setup()
    return ring


def another(store, **options) -> Keyring:
    """Another process's keyring on the same tables."""
    return Keyring(store, MASTER, **options)


def sealed(keyring: Keyring, subject: str, text: bytes = b"secret", cls: str = "ordinary") -> Sealed:
    [ciphertext] = keyring.seal([Sealing(subject, cls, "e1", text)])
    return Sealed(subject, cls, "e1", ciphertext)


def test_an_identifier_has_one_subject_in_every_process(store, keyring):
    """Whoever asks first makes the random subject; everybody gets the same."""
    subject = keyring.subjects_of([ANNA], create=True)[ANNA]
    assert another(store).subjects_of([ANNA], create=True) == {ANNA: subject}


def test_without_create_an_unknown_identifier_has_none(keyring):
    """Looking somebody up does not make them known."""
    assert keyring.subjects_of([ANNA], create=False) == {ANNA: None}
    assert keyring.subjects_of([ANNA], create=False) == {ANNA: None}


def test_kind_and_value_are_kept_apart(keyring):
    """("ab", "c") and ("a", "bc") are two identifiers."""
    subjects = keyring.subjects_of([("ab", "c"), ("a", "bc")], create=True)
    assert len(set(subjects.values())) == 2


def test_what_was_sealed_opens_again_in_any_process(store, keyring):
    """The key is in the store, not in the process."""
    item = sealed(keyring, "s1")
    assert another(store).open([item]) == [b"secret"]
    assert b"secret" not in item.ciphertext


def test_a_ciphertext_cannot_be_moved(keyring):
    """Sealed for one subject and event, it opens for no other event (associated data)."""
    item = sealed(keyring, "s1")
    with pytest.raises(Poison):
        keyring.open([item._replace(event_id="e2")])
    sealed(keyring, "s2")
    with pytest.raises(Poison):
        keyring.open([item._replace(subject="s2")])


def test_a_changed_ciphertext_is_poison(keyring):
    """A flipped bit is found."""
    item = sealed(keyring, "s1")
    broken = item.ciphertext[:-1] + bytes([item.ciphertext[-1] ^ 1])
    with pytest.raises(Poison):
        keyring.open([item._replace(ciphertext=broken)])


def test_erased_reads_as_none(keyring):
    """A missing key with a fence reads as erased; other subjects still open."""
    gone, stays = sealed(keyring, "s1"), sealed(keyring, "s2")
    keyring.fence(["s1"])
    keyring.destroy(["s1"])
    assert keyring.open([gone, stays]) == [None, b"secret"]


def test_a_missing_key_without_a_fence_is_an_alarm(keyring):
    """Lost keys must stop everything, not look like erasures."""
    item = sealed(keyring, "s1")
    keyring.destroy(["s1"])
    with pytest.raises(MissingKey):
        keyring.open([item])


def test_a_fenced_subject_gets_no_key(keyring):
    """Sealing for an erased subject is refused and names it."""
    keyring.fence(["s1"])
    with pytest.raises(SubjectsFenced) as refused:
        sealed(keyring, "s1")
    assert refused.value.subjects == {"s1"}


def test_each_class_can_be_destroyed_alone(keyring):
    """The sensitive key goes; ordinary data and the identifier's subject stay."""
    subject = keyring.subjects_of([ANNA], create=True)[ANNA]
    ordinary, sensitive = sealed(keyring, subject), sealed(keyring, subject, cls="sensitive")
    keyring.destroy([subject], ["sensitive"])
    assert keyring.open([ordinary]) == [b"secret"]
    with pytest.raises(MissingKey):
        keyring.open([sensitive])
    assert keyring.subjects_of([ANNA], create=False)[ANNA] == subject


def test_after_an_erasure_the_identifier_is_somebody_new(keyring):
    """Tokens go with the keys: the same e-mail gets a fresh subject that nothing links to the old one."""
    old = keyring.subjects_of([ANNA], create=True)[ANNA]
    keyring.fence([old])
    keyring.destroy([old])
    assert keyring.subjects_of([ANNA], create=False) == {ANNA: None}
    assert keyring.subjects_of([ANNA], create=True)[ANNA] != old


def test_another_process_lets_go_when_told(store, keyring):
    """An eviction ends what a process holds of a subject at once."""
    other = another(store)
    subject = keyring.subjects_of([ANNA], create=True)[ANNA]
    item = sealed(keyring, subject)
    assert other.open([item]) == [b"secret"]
    assert other.subjects_of([ANNA], create=False)[ANNA] == subject
    keyring.fence([subject])
    keyring.destroy([subject])
    other.evict([subject])
    assert other.open([item]) == [None]
    assert other.subjects_of([ANNA], create=False) == {ANNA: None}


@pytest.mark.parametrize("first_use", [0.0, 20.0, 29.0, 31.0, 59.0])
def test_another_process_lets_go_after_the_longest_time(store, keyring, first_use):
    """Untold, a process holds a key no longer than the cache's time, however often it uses it."""
    time = Time()
    other = another(store, seconds=60.0, now=time)
    time.seconds = first_use
    item = sealed(keyring, "s1")
    assert other.open([item]) == [b"secret"]
    keyring.fence(["s1"])
    keyring.destroy(["s1"])
    while time.seconds < first_use + 60.0:
        time.seconds += 5.0
        other.open([item])
    assert other.open([item]) == [None]


def test_suppressed_identifiers_are_known_at_once(store, keyring):
    """Nobody suppressed, then somebody: this process knows at once, others when they are told."""
    other = another(store)
    assert other.suppressed([ANNA]) == set()
    keyring.suppress([ANNA])
    assert keyring.suppressed([ANNA, ("email", "b@example.org")]) == {ANNA}
    other.evict([])
    assert other.suppressed([ANNA]) == {ANNA}


def test_another_master_key_is_refused(store, keyring):
    """A deployment cannot be opened with the wrong master key by mistake."""
    with pytest.raises(SamlaError, match="SAMLA_MASTER_KEY"):
        Keyring(store, b"x" * 32).setup()


def test_event_ids_follow_from_source_message_and_subject(store, keyring):
    """The same message gets the same id in every process; another source's does not."""
    one = keyring.event_id("web", "m1", "s1")
    assert another(store).event_id("web", "m1", "s1") == one
    assert len({one, keyring.event_id("app", "m1", "s1"), keyring.event_id("web", "m1", "s2")}) == 3


def test_who_holds_a_key_is_found_by_the_beginning_of_a_name(keyring):
    """And not by what would be a pattern."""
    keyring.seal([Sealing(each, "raw", "e", b"x") for each in ("source:a:1", "source:b:2", "person", "sourceXa")])
    assert sorted(keyring.holders("source:")) == ["source:a:1", "source:b:2"]
    assert keyring.holders("source.") == []
    keyring.destroy(["source:a:1"])
    assert keyring.holders("source:") == ["source:b:2"]

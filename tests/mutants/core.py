"""The modules of the core, and the tests that must notice a change in each."""

from __future__ import annotations

from pathlib import Path

_INDEX = (
    "tests/index/test_sqlite.py",
    "tests/index/test_rules.py",
    "tests/index/test_rows.py",
    "tests/index/test_kinds.py",
)
_ARCHIVE = (
    *(f"tests/archive/{path.name}" for path in sorted((Path(__file__).parents[1] / "archive").glob("test_*.py"))),
    "tests/services/test_ingest.py",
    "tests/services/test_damage.py",
    "tests/services/test_life.py",
)
_RETRIEVE = (
    "tests/dimse/test_storage_scu.py",
    "tests/dimse/test_retrieve_scp.py",
    "tests/services/test_restore.py",
)
_SERVER = (
    "tests/dimse/test_server.py",
    "tests/dimse/test_association.py",
    "tests/dimse/test_upper_layer.py",
)
_COMMITMENT = (
    "tests/services/test_commitment.py",
    "tests/services/test_commitment_copies.py",
    "tests/dimse/test_storage_commitment.py",
)

CORE: dict[str, tuple[str, ...]] = {
    "archive/filesystem.py": (*_ARCHIVE, "tests/system/test_failing_calls.py"),
    "archive/file_writing.py": (*_ARCHIVE, "tests/system/test_failing_calls.py"),
    "archive/staging.py": (*_ARCHIVE, "tests/system/test_failing_calls.py"),
    "archive/staging_folder.py": (*_ARCHIVE, "tests/system/test_failing_calls.py"),
    "archive/stored_files.py": _ARCHIVE,
    "archive/volume.py": (*_ARCHIVE, "tests/system/test_disk.py"),
    "dicom/character_set/decoding.py": ("tests/dicom/test_character_set.py",),
    "services/commitment.py": _COMMITMENT,
    "services/commitment_worker.py": ("tests/services/test_commitment_worker.py", *_COMMITMENT),
    "services/lease_keeper.py": _COMMITMENT,
    "services/commitment_verification.py": _COMMITMENT,
    "dicom/data_set/pattern.py": ("tests/dicom/test_similar_headers.py",),
    "dicom/data_set/scanning.py": (
        "tests/dicom/test_data_set.py",
        "tests/dicom/test_data_set_end.py",
        "tests/dicom/test_sop_instance.py",
    ),
    "services/delivery.py": ("tests/services/test_delivery.py", "tests/services/test_restore.py"),
    "index/writing/version_writer.py": (
        *_INDEX,
        "tests/index/test_optimistic_insert.py",
        "tests/index/test_postgresql.py",
    ),
    "index/writing/version_rule.py": (*_INDEX, "tests/services/test_life.py"),
    "index/reading/matching.py": (*_INDEX, "tests/index/test_matching.py", "tests/index/test_names.py"),
    "index/writing/group_commit.py": (*_INDEX, "tests/index/test_group_commit.py"),
    "machine/digests.py": _ARCHIVE,
    "services/ingest.py": (
        "tests/services/test_ingest.py",
        "tests/services/test_same_content.py",
        "tests/services/test_due_for_checkpoint.py",
        "tests/services/test_damage.py",
        "tests/services/test_life.py",
    ),
    "dimse/association/acceptance.py": ("tests/dimse/test_acceptance.py", "tests/dimse/test_negotiation.py"),
    "services/restore_journal.py": (
        "tests/services/test_restore_journal.py",
        "tests/services/test_restored_study.py",
        "tests/services/test_restore.py",
        "tests/cli/test_network.py",
    ),
    "dimse/association/access.py": ("tests/dimse/test_access.py", "tests/system/test_access.py"),
    "dimse/scu/query_scu.py": ("tests/dimse/test_query_scu.py",),
    "dimse/scp/retrieve_operation.py": (*_RETRIEVE, "tests/system/test_sub_operations.py"),
    "dimse/scp/retrieve_scp.py": (*_RETRIEVE, "tests/system/test_sub_operations.py"),
    "dimse/association/request_dispatch.py": _SERVER,
    "dimse/association/admission.py": _SERVER,
    "dimse/association/server.py": _SERVER,
    "dimse/scu/remote_ae_destination.py": _RETRIEVE,
    "dimse/scu/storage_contexts.py": ("tests/dimse/test_storage_contexts.py", *_RETRIEVE),
    "dimse/scu/storage_scu.py": _RETRIEVE,
    "dimse/upper_layer/association_request.py": (
        "tests/dimse/test_acceptance.py",
        "tests/dimse/test_negotiation.py",
        "tests/dimse/test_upper_layer.py",
    ),
    "services/read_ahead.py": ("tests/services/test_read_ahead.py", "tests/services/test_restore.py"),
    "services/parallel_reader.py": ("tests/services/test_parallel_reader.py",),
    "services/throttle.py": (
        "tests/services/test_throttle.py",
        "tests/services/test_restore_hours.py",
        "tests/services/test_restore.py",
    ),
    "dicom/part10.py": ("tests/dicom/test_part10.py", "tests/cli/test_import.py"),
    "services/rebuild.py": (
        "tests/services/test_verify.py",
        "tests/services/test_damage.py",
        "tests/services/test_life.py",
        "tests/system/test_unreadable.py",
        "tests/system/test_rebuild.py",
    ),
    "services/restore.py": (
        "tests/services/test_restore.py",
        "tests/services/test_restore_hours.py",
        "tests/services/test_restored_study.py",
        "tests/cli/test_restore.py",
        "tests/dimse/test_storage_scu.py",
    ),
    "services/restore_result.py": (
        "tests/services/test_restore.py",
        "tests/services/test_restored_study.py",
        "tests/cli/test_restore.py",
    ),
    "services/import_files.py": ("tests/services/test_import_files.py", "tests/cli/test_import.py"),
    "dicom/transcode/__init__.py": (
        "tests/dicom/test_padding.py",
        "tests/dicom/test_transcode.py",
        "tests/dicom/transcode/test_content.py",
    ),
    "dicom/transcode/element_walk.py": (
        "tests/dicom/transcode/test_elements.py",
        "tests/dicom/test_padding.py",
        "tests/dicom/test_transcode.py",
    ),
    "dicom/transcode/padding.py": ("tests/dicom/test_padding.py",),
    "services/verify.py": (
        "tests/services/test_verify.py",
        "tests/services/test_damage.py",
        "tests/services/test_life.py",
    ),
}
"""By path below `backup_scp`: files of tests, the quickest first."""

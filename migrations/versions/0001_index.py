"""The index: study, series, instance, version, rejection."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

STUDY_TEXTS = """
    site
    patient_id patient_name patient_name_alphabetic patient_name_ideographic patient_name_phonetic
    issuer_of_patient_id patient_birth_date patient_birth_date_key patient_birth_time patient_birth_time_key
    patient_sex other_patient_ids patient_comments
    study_instance_uid study_date study_date_key study_time study_time_key accession_number study_id study_description
    referring_physician_name referring_physician_name_key
    name_of_physicians_reading_study name_of_physicians_reading_study_key
    patient_age patient_size patient_weight timezone_offset_from_utc
    patient_key modalities_in_study sop_classes_in_study last_received_at merged_at merged_earlier
"""
SERIES_TEXTS = """
    series_instance_uid modality series_number series_description
    series_date series_date_key series_time series_time_key
    body_part_examined laterality protocol_name
    performed_procedure_step_start_date performed_procedure_step_start_date_key
    performed_procedure_step_start_time performed_procedure_step_start_time_key
    institution_name station_name manufacturer manufacturer_model_name
    operators_name operators_name_key performing_physician_name performing_physician_name_key
    merged_at merged_earlier
"""
INSTANCE_TEXTS = """
    sop_instance_uid sop_class_uid instance_number
    content_date content_date_key content_time content_time_key
    acquisition_date acquisition_date_key acquisition_time acquisition_time_key acquisition_number
    image_type view_position image_laterality number_of_frames rows columns bits_allocated
"""
VERSION_TEXTS = """
    location sop_class_uid transfer_syntax_uid
    received_at service calling_ae_title called_ae_title address site
    flags verified_at
"""
REJECTION_TEXTS = "calling_ae_title called_ae_title address reason fix last_at"
REMARKABLE = sa.text("flags <> '' OR damage IS NOT NULL")


def upgrade() -> None:
    _create_study()
    _create_series()
    _create_instance()
    _create_version()
    op.create_table(
        "rejection",
        *_required(REJECTION_TEXTS, TEXT),
        *_required("id", ID),
        *_required("count", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_rejection"),
        sa.UniqueConstraint("calling_ae_title", "called_ae_title", "address", "reason", name="uq_rejection_cause"),
    )


def downgrade() -> None:
    for table in ("rejection", "version", "instance", "series", "study"):
        op.drop_table(table)


def _create_study() -> None:
    op.create_table(
        "study",
        *_required("id", ID),
        *_required(STUDY_TEXTS, TEXT),
        sa.Column("patient_size_key", sa.Double()),
        sa.Column("patient_weight_key", sa.Double()),
        *_required("number_of_study_related_series number_of_study_related_instances", sa.BigInteger()),
        *_required("version_count size_bytes revision", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.UniqueConstraint("study_instance_uid", "patient_id", "issuer_of_patient_id", "site", name="uq_study_entity"),
    )
    for columns in (
        "patient_id",
        "accession_number",
        "study_date_key id",
        "patient_name_alphabetic",
        "patient_name_ideographic",
        "patient_name_phonetic",
        "patient_key study_date_key id",
    ):
        _create_index("study", columns)


def _create_series() -> None:
    op.create_table(
        "series",
        *_required("id study_id", ID),
        *_required(SERIES_TEXTS, TEXT),
        sa.Column("series_number_key", sa.BigInteger()),
        *_required("number_of_series_related_instances", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_series"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_series_study_id_study"),
        sa.UniqueConstraint("study_id", "series_instance_uid", name="uq_series_study_id_series_instance_uid"),
    )
    _create_index("series", "series_instance_uid")


def _create_instance() -> None:
    op.create_table(
        "instance",
        *_required("id series_id", ID),
        *_required(INSTANCE_TEXTS, TEXT),
        sa.Column("instance_number_key", sa.BigInteger()),
        sa.Column("acquisition_number_key", sa.BigInteger()),
        sa.Column("number_of_frames_key", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name="fk_instance_series_id_series"),
        sa.UniqueConstraint("sop_instance_uid", "series_id", name="uq_instance_sop_instance_uid_series_id"),
    )
    _create_index("instance", "series_id")


def _create_version() -> None:
    op.create_table(
        "version",
        *_required("id instance_id", ID),
        *_required("sha256", sa.LargeBinary()),
        *_required("answering", sa.Boolean()),
        *_required("size_bytes", sa.BigInteger()),
        *_required(VERSION_TEXTS, TEXT),
        sa.Column("damage", TEXT),
        sa.PrimaryKeyConstraint("id", name="pk_version"),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name="fk_version_instance_id_instance"),
        sa.UniqueConstraint("instance_id", "sha256", name="uq_version_instance_id_sha256"),
        sa.UniqueConstraint("location", name="uq_version_location"),
    )
    _create_index("version", "verified_at id")
    op.create_index(
        "ix_version_remarkable", "version", ["received_at"], sqlite_where=REMARKABLE, postgresql_where=REMARKABLE
    )


def _required(names: str, kind: sa.types.TypeEngine) -> list[sa.Column]:
    return [sa.Column(name, kind, nullable=False) for name in names.split()]


def _create_index(table: str, columns: str) -> None:
    names = columns.split()
    op.create_index(f"ix_{table}_{'_'.join(names)}", table, names)

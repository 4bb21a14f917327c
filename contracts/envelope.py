"""The envelope of every event in the log, with CloudEvents' names where CloudEvents has one.

shared.eventlog.Event is the same thing as a fast struct; a test holds the two together.
"""

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

ID = validate.Regexp(r"^[0-9a-f]{32}$", error="32 hex characters")
TYPE = validate.Regexp(r"^[a-z_]+\.[a-z_]+\.v[1-9][0-9]*$", error="stream.name.vN")
PLACE = validate.Regexp(r"^[a-z]+:[0-9]+$", error="stream:partition")


class Envelope(Schema):
    """An event as it stands in the log.

    In clear there are random ids, positions and kinds only: `data` holds nothing personal, and everything
    that came from or about a person is in `sealed`, one ciphertext a class of data.
    """

    id = fields.String(required=True, validate=ID)
    type = fields.String(required=True, validate=TYPE)
    source = fields.String(required=True)
    subject = fields.String(required=True)
    time = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC"})
    data = fields.Dict(keys=fields.String(), load_default=dict)
    sealed = fields.Dict(keys=fields.String(), values=fields.Raw(), load_default=dict)
    causes = fields.Dict(keys=fields.String(validate=PLACE), values=fields.Integer(strict=True), load_default=dict)
    correlation = fields.String(load_default="")
    stream = fields.String(required=True)
    partition = fields.Integer(required=True, strict=True)
    position = fields.Integer(required=True, strict=True, validate=validate.Range(min=1))
    stored_type = fields.String(load_default="")

    @validates_schema
    def type_belongs_to_stream(self, data: dict[str, object], **kwargs: object) -> None:
        """An event of a stream is named after it."""
        if not str(data["type"]).startswith(f"{data['stream']}."):
            raise ValidationError("must begin with the stream's name", "type")

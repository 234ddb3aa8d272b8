"""Cloud storage: sealed or plain objects in a store of bytes (S3, rclone); docs/adr/0040 says why."""

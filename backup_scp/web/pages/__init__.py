"""The pages that people look at: the state of the backup, search, a study, a restore (docs/page.md, docs/adr/0053).

They are made on the server from templates, and work with JavaScript off.  Imports what stands below: services, ports,
dicom, machine.
"""

"""DICOMweb (PS3.18), and the pages that people look at, in a process of its own (docs/adr/0045, docs/adr/0053).

Imports what stands below: services, ports, dicom, machine.  Only this room uses Starlette, uvicorn and Jinja2.
"""

"""DICOMweb: searching, retrieving and storing over HTTP (PS3.18), in a process of its own (docs/adr/0045).

Imports what stands below: services, ports, dicom, machine.  Only this room uses Starlette and uvicorn.
"""

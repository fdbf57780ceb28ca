"""tuspyserver as its documentation starts it: python tus.py FOLDER PORT"""

import sys

import uvicorn
from fastapi import FastAPI
from tuspyserver import create_tus_router

folder, port = sys.argv[1:]
app = FastAPI()
app.include_router(create_tus_router(files_dir=folder, prefix="files"))
uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
